{{- /* run.yaml: the values' run, whose compute section uses the groups that there are unless it says otherwise. */ -}}
{{- define "sortase.run" -}}
{{- $run := deepCopy .Values.run -}}
{{- $compute := $run.compute | default dict -}}
{{- $groups := .Values.groups -}}
{{- $fit := ternary "tune" "train" (and (hasKey $run "tune") (dig "tune" "enabled" false $groups)) -}}
{{- if and (dig $fit "enabled" false $groups) (not (hasKey $compute "labels")) -}}
{{- $_ := set $compute "labels" (dict "group" $fit) -}}
{{- end -}}
{{- range $work := list "prepare" "score" -}}
{{- $group := ternary "prepare" $fit (eq $work "prepare") -}}
{{- $given := get $compute $work -}}
{{- if and $given (dig $group "enabled" false $groups) (not (hasKey $given "labels")) -}}
{{- $_ := set $given "labels" (dict "group" $group) -}}
{{- end -}}
{{- end -}}
{{- if not (hasKey $compute "most") -}}
{{- /* Workers may still be joining when the driver looks, above all where a lost head came back. */ -}}
{{- $most := include "sortase.most" . | fromYaml -}}
{{- if $most }}{{ $_ := set $compute "most" $most }}{{ end -}}
{{- end -}}
{{- $_ := set $run "compute" $compute -}}
{{- toYaml $run -}}
{{- end -}}

{{- define "sortase.entrypoint" -}}
{{- $words := concat (list "sortase" .Values.job.command "--config" "/etc/sortase/run.yaml") .Values.job.arguments -}}
{{- $quoted := list -}}
{{- range $words }}{{ $quoted = append $quoted (printf "'%s'" (. | toString | replace "'" "'\\''")) }}{{ end -}}
{{- join " " $quoted -}}
{{- end -}}

{{- /* What all groups together grow to, as Ray counts it. */ -}}
{{- define "sortase.most" -}}
{{- $cpus := 0 -}}
{{- $gpus := 0 -}}
{{- range $group := .Values.groups -}}
{{- if $group.enabled -}}
{{- $pods := ternary $group.maxReplicas $group.replicas $.Values.autoscaling.enabled | int -}}
{{- $limit := dig "resources" "limits" "cpu" "1" $group | toString -}}
{{- $each := divf (trimSuffix "m" $limit | float64) (ternary 1000 1 (hasSuffix "m" $limit)) | ceil -}}
{{- $cpus = add $cpus (mul $pods ($group.cpus | default $each | int)) -}}
{{- $gpus = add $gpus (mul $pods ($group.gpus | default 0 | int)) -}}
{{- end -}}
{{- end -}}
{{- if $cpus }}CPU: {{ $cpus }}
{{ end -}}
{{- if $gpus }}GPU: {{ $gpus }}
{{ end -}}
{{- end -}}

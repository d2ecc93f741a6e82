{{- /* The values' run as settings, also where it is given as the text of a run.yaml. */ -}}
{{- define "sortase.settings" -}}
{{- $settings := .Values.run -}}
{{- if kindIs "string" $settings -}}
{{- $settings = fromYaml .Values.run -}}
{{- if hasKey $settings "Error" -}}
{{- fail (printf "run is a text, and not that of a run.yaml: %s" $settings.Error) -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{- /* What its compute section says of the groups that there are, unless it says otherwise: {path: value}. */ -}}
{{- define "sortase.compute" -}}
{{- $run := include "sortase.settings" . | fromYaml -}}
{{- $compute := $run.compute | default dict -}}
{{- $groups := .Values.groups -}}
{{- $made := dict -}}
{{- $fit := ternary "tune" "train" (and (hasKey $run "tune") (dig "tune" "enabled" false $groups)) -}}
{{- if and (dig $fit "enabled" false $groups) (not (hasKey $compute "labels")) -}}
{{- $_ := set $made "labels" (dict "group" $fit) -}}
{{- end -}}
{{- range $work := list "prepare" "score" -}}
{{- $group := ternary "prepare" $fit (eq $work "prepare") -}}
{{- $given := get $compute $work -}}
{{- if and $given (dig $group "enabled" false $groups) (not (hasKey $given "labels")) -}}
{{- $_ := set $made (printf "%s.labels" $work) (dict "group" $group) -}}
{{- end -}}
{{- end -}}
{{- if not (hasKey $compute "most") -}}
{{- /* Workers may still be joining when the driver looks, above all where a lost head came back. */ -}}
{{- $most := include "sortase.most" . | fromYaml -}}
{{- if $most }}{{ $_ := set $made "most" $most }}{{ end -}}
{{- end -}}
{{- toYaml $made -}}
{{- end -}}

{{- /* run.yaml with that. A text stays as it is, since Helm reads 010 as 8, and the command says the rest. */ -}}
{{- define "sortase.run" -}}
{{- if kindIs "string" .Values.run -}}
{{- .Values.run -}}
{{- else -}}
{{- $run := deepCopy .Values.run -}}
{{- $compute := $run.compute | default dict -}}
{{- range $path, $value := include "sortase.compute" . | fromYaml -}}
{{- $keys := splitList "." $path -}}
{{- $_ := set (ternary $compute (get $compute (first $keys)) (eq (len $keys) 1)) (last $keys) $value -}}
{{- end -}}
{{- $_ := set $run "compute" $compute -}}
{{- toYaml $run -}}
{{- end -}}
{{- end -}}

{{- define "sortase.entrypoint" -}}
{{- $words := list "sortase" .Values.job.command "--config" "/etc/sortase/run.yaml" -}}
{{- if kindIs "string" .Values.run -}}
{{- range $path, $value := include "sortase.compute" . | fromYaml -}}
{{- $words = concat $words (list "--set" (printf "compute.%s=%s" $path (toRawJson $value))) -}}
{{- end -}}
{{- end -}}
{{- $quoted := list -}}
{{- range concat $words .Values.job.arguments }}{{ $quoted = append $quoted (printf "'%s'" (include "sortase.text" . | replace "'" "'\\''")) }}{{ end -}}
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

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
{{- $_ := set $run "compute" $compute -}}
{{- toYaml $run -}}
{{- end -}}

{{- define "sortase.entrypoint" -}}
{{- $words := concat (list "sortase" .Values.job.command "--config" "/etc/sortase/run.yaml") .Values.job.arguments -}}
{{- $quoted := list -}}
{{- range $words }}{{ $quoted = append $quoted (printf "'%s'" (. | toString | replace "'" "'\\''")) }}{{ end -}}
{{- join " " $quoted -}}
{{- end -}}

{{- define "sortase.name" -}}
{{- $name := ternary .Release.Name (printf "%s-sortase" .Release.Name) (contains "sortase" .Release.Name) -}}
{{- $most := ternary 38 42 (ne .Values.mode "cluster") -}}
{{- if gt (len $name) $most -}}
{{- fail (printf "the name %q is too long: KubeRay leaves room for %d characters; take a shorter release name" $name $most) -}}
{{- end -}}
{{- $name -}}
{{- end -}}

{{- /* What a RayJob does, in eight characters: another configuration is another job, never half of one. */ -}}
{{- define "sortase.digest" -}}
{{- $image := include "sortase.image" . -}}
{{- dict "run" (include "sortase.run" .) "job" (pick .Values.job "command" "arguments" "attempt") "image" $image | toJson | sha256sum | trunc 8 -}}
{{- end -}}

{{- define "sortase.jobName" -}}
{{- printf "%s-%s" (include "sortase.name" .) (include "sortase.digest" .) -}}
{{- end -}}

{{- define "sortase.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{- define "sortase.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "sortase.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "sortase.selector" -}}
app.kubernetes.io/name: sortase
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sortase.labels" -}}
{{ include "sortase.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

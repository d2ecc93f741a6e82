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
{{- dict "run" (include "sortase.run" .) "entrypoint" (include "sortase.entrypoint" .) "attempt" .Values.job.attempt "image" $image | toJson | sha256sum | trunc 8 -}}
{{- end -}}

{{- define "sortase.jobName" -}}
{{- printf "%s-%s" (include "sortase.name" .) (include "sortase.digest" .) -}}
{{- end -}}

{{- /* What goes with one RayJob has its name, so that nothing is shared with another. */ -}}
{{- define "sortase.ownName" -}}
{{- if eq .Values.mode "job" }}{{ include "sortase.jobName" . }}{{ else }}{{ include "sortase.name" . }}{{ end -}}
{{- end -}}

{{- define "sortase.image" -}}
{{- with .Values.image -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{ end -}}
{{- end -}}
{{- end -}}

{{- /* Clouds know an account with annotations by its name, which stays. */ -}}
{{- define "sortase.serviceAccount" -}}
{{- $own := include (ternary "sortase.name" "sortase.ownName" (gt (len .Values.serviceAccount.annotations) 0)) . -}}
{{- .Values.serviceAccount.name | default (ternary $own "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "sortase.selector" -}}
app.kubernetes.io/name: sortase
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "sortase.labels" -}}
{{ include "sortase.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- with .Values.commonLabels }}
{{ include "sortase.ownLabels" . }}
{{- end }}
{{- end -}}

{{- /* A user's labels. Those by which policies and KubeRay find pods are not theirs to give. */ -}}
{{- define "sortase.ownLabels" -}}
{{- range $name, $_ := . -}}
{{- if regexMatch "^(app\\.kubernetes\\.io/(name|instance|version|managed-by)|helm\\.sh/chart|sortase\\.io/.*|ray\\.io/.*)$" $name -}}
{{- fail (printf "labels: %s is set by the chart or by KubeRay, and has no other value; take another name" $name) -}}
{{- end -}}
{{- end -}}
{{- include "sortase.texts" . -}}
{{- end -}}

{{- /* The spec of a RayCluster: a head that does no workers' work, and the groups that are enabled. */ -}}
{{- define "sortase.cluster" -}}
{{- $root := . -}}
rayVersion: {{ .Values.rayVersion | quote }}
{{- if eq .Values.auth.mode "token" }}
authOptions:
  mode: token
  {{- with .Values.auth.secretName }}
  secretName: {{ . | quote }}
  {{- end }}
{{- end }}
enableInTreeAutoscaling: {{ .Values.autoscaling.enabled }}
{{- if .Values.autoscaling.enabled }}
autoscalerOptions:
  version: v2
  idleTimeoutSeconds: {{ include "sortase.text" .Values.autoscaling.idleTimeoutSeconds }}
  securityContext: {{ toYaml .Values.securityContext | nindent 4 }}
  resources: {{ toYaml .Values.autoscaling.resources | nindent 4 }}
{{- end }}
headGroupSpec:
  rayStartParams:
    num-cpus: "0"
    num-gpus: "0"
    dashboard-host: 0.0.0.0
    object-store-memory: {{ .Values.objectStoreBytes | int64 | quote }}
  template: {{ include "sortase.pod" (dict "root" $root "group" .Values.head "name" "head" "container" "ray-head") | nindent 4 }}
workerGroupSpecs:
  {{- range $name, $group := .Values.groups }}
  {{- if $group.enabled }}
  - groupName: {{ $name | quote }}
    labels: {group: {{ $name | quote }}}
    replicas: {{ include "sortase.text" $group.replicas }}
    minReplicas: {{ include "sortase.text" (ternary $group.minReplicas $group.replicas $root.Values.autoscaling.enabled) }}
    maxReplicas: {{ include "sortase.text" (ternary $group.maxReplicas $group.replicas $root.Values.autoscaling.enabled) }}
    rayStartParams:
      {{- if $group.cpus }}
      num-cpus: {{ include "sortase.text" $group.cpus | quote }}
      {{- end }}
      num-gpus: {{ include "sortase.text" ($group.gpus | default 0) | quote }}
      object-store-memory: {{ $root.Values.objectStoreBytes | int64 | quote }}
    template: {{ include "sortase.pod" (dict "root" $root "group" $group "name" $name "container" "ray-worker") | nindent 6 }}
  {{- end }}
  {{- end }}
{{- end -}}

{{- /* The spec of a RayJob; also what the schedule makes. */ -}}
{{- define "sortase.rayjob" -}}
entrypoint: {{ include "sortase.entrypoint" . | quote }}
{{- /* The other modes start pods, or containers, that restricted namespaces refuse. */}}
submissionMode: HTTPMode
backoffLimit: {{ .Values.job.backoffLimit }}
{{- with .Values.job.activeDeadlineSeconds }}
activeDeadlineSeconds: {{ . }}
{{- end }}
{{- with .Values.job.preRunningDeadlineSeconds }}
preRunningDeadlineSeconds: {{ . }}
{{- end }}
shutdownAfterJobFinishes: true
ttlSecondsAfterFinished: {{ .Values.job.ttlSecondsAfterFinished }}
{{- if .Values.queue.kueue }}
suspend: true
{{- end }}
rayClusterSpec: {{ include "sortase.cluster" . | nindent 2 }}
{{- end -}}

{{- define "sortase.queueLabels" -}}
{{- with .Values.queue.kueue }}
kueue.x-k8s.io/queue-name: {{ . }}
{{- end }}
{{- with .Values.queue.volcano }}
ray.io/scheduler-name: volcano
volcano.sh/queue-name: {{ . }}
{{- end }}
{{- end -}}

{{- /* The spec of a RayJob; also what the schedule makes. */ -}}
{{- define "sortase.rayjob" -}}
entrypoint: {{ include "sortase.entrypoint" . | quote }}
{{- /* The other modes start pods, or containers, that restricted namespaces refuse. */}}
submissionMode: HTTPMode
backoffLimit: {{ include "sortase.text" .Values.job.backoffLimit }}
{{- with .Values.job.activeDeadlineSeconds }}
activeDeadlineSeconds: {{ include "sortase.text" . }}
{{- end }}
{{- with .Values.job.preRunningDeadlineSeconds }}
preRunningDeadlineSeconds: {{ include "sortase.text" . }}
{{- end }}
shutdownAfterJobFinishes: true
ttlSecondsAfterFinished: {{ include "sortase.text" .Values.job.ttlSecondsAfterFinished }}
{{- if .Values.queue.kueue }}
suspend: true
{{- end }}
rayClusterSpec: {{ include "sortase.cluster" . | nindent 2 }}
{{- end -}}

{{- define "sortase.queueLabels" -}}
{{- with .Values.queue.kueue }}
kueue.x-k8s.io/queue-name: {{ . | quote }}
{{- end }}
{{- with .Values.queue.volcano }}
ray.io/scheduler-name: volcano
volcano.sh/queue-name: {{ . | quote }}
{{- end }}
{{- end -}}

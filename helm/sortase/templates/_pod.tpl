{{- /* A pod template of the cluster. Needs root (the chart's context), group (its values), name, container, grace. */ -}}
{{- define "sortase.pod" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $group := .group -}}
metadata:
  labels:
    {{- include "sortase.labels" $root | nindent 4 }}
    sortase.io/group: {{ .name | quote }}
    {{- with $group.labels }}{{ include "sortase.ownLabels" . | nindent 4 }}{{ end }}
  {{- with $group.annotations }}
  annotations: {{ include "sortase.texts" . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "sortase.serviceAccount" $root | quote }}
  {{- /* The autoscaler in the head talks to the API server; KubeRay gives it an account of its own only by default. */}}
  automountServiceAccountToken: {{ and (eq .name "head") $values.autoscaling.enabled }}
  restartPolicy: Never
  terminationGracePeriodSeconds: {{ add $values.drainSeconds 30 }}
  securityContext: {{ toYaml $values.podSecurityContext | nindent 4 }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets: {{ range . }}
    - name: {{ include "sortase.text" . | quote }}
  {{- end }}
  {{- end }}
  {{- with $group.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  {{- with $group.nodeSelector }}
  nodeSelector: {{ include "sortase.texts" . | nindent 4 }}
  {{- end }}
  {{- with $group.affinity }}
  affinity: {{ include "sortase.fields" . | nindent 4 }}
  {{- end }}
  {{- with $group.topologySpreadConstraints }}
  topologySpreadConstraints: {{ include "sortase.fields" . | nindent 4 }}
  {{- end }}
  {{- with concat (ternary $values.spotTolerations list ($group.spot | default false)) ($group.tolerations | default list) }}
  tolerations: {{ include "sortase.fields" . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .container }}
      image: {{ include "sortase.image" $root | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      securityContext: {{ toYaml $values.securityContext | nindent 8 }}
      {{- $resources := deepCopy $group.resources }}
      {{- if $group.gpus }}
      {{- $_ := set $resources "limits" (set ($resources.limits | default dict) ($group.gpuResource | default "nvidia.com/gpu") $group.gpus) }}
      {{- end }}
      resources: {{ toYaml $resources | nindent 8 }}
      env:
        - {name: HOME, value: /home/sortase}
        - {name: SORTASE_CACHE, value: /scratch/cache}
        {{- $own := list -}}
        {{- range $values.extraEnv }}{{ $own = append $own .name }}{{ end }}
        {{- if not (has "SORTASE_CACHE_SIZE" $own) }}
        {{- /* A pod whose volume outgrows its limit is evicted; a tenth is for what the disk adds to files. */}}
        - {name: SORTASE_CACHE_SIZE, value: {{ include "sortase.nineTenths" ($group.scratch | default "20Gi") | quote }}}
        {{- end }}
        - {name: TMPDIR, value: /tmp}
        {{- if eq .name "head" }}
        {{- /* Stopping a job waits for its checkpoint; the driver's log is the container's too. */}}
        - {name: RAY_JOB_STOP_WAIT_TIME_S, value: {{ include "sortase.text" $values.drainSeconds | quote }}}
        - {name: SORTASE_LOG_COPY, value: /proc/1/fd/1}
        - {name: SORTASE_IMAGE, value: {{ include "sortase.image" $root | quote }}}
        {{- if eq $values.mode "job" }}
        - {name: SORTASE_SUBMISSION, value: {{ include "sortase.jobName" $root | quote }}}
        {{- end }}
        {{- else }}
        - {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {{ include "sortase.text" $values.drainSeconds | quote }}}
        {{- end }}
        {{- with $values.storage.endpoint }}
        - {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
        {{- end }}
        {{- with $values.storage.region }}
        - {name: AWS_REGION, value: {{ . | quote }}}
        {{- end }}
        {{- include "sortase.checkSecrets" $root }}
        {{- with $values.extraEnv }}{{ include "sortase.fields" . | nindent 8 }}{{ end }}
      {{- if or $values.storage.existingSecret $values.extraEnvFrom }}
      envFrom:
        {{- with $values.storage.existingSecret }}
        - secretRef: {name: {{ . | quote }}}
        {{- end }}
        {{- with $values.extraEnvFrom }}{{ include "sortase.fields" . | nindent 8 }}{{ end }}
      {{- end }}
      volumeMounts:
        - {name: home, mountPath: /home/sortase}
        - {name: tmp, mountPath: /tmp}
        - {name: scratch, mountPath: /scratch}
        - {name: shared-memory, mountPath: /dev/shm}
        {{- if and (eq .name "head") (ne $values.mode "cluster") }}
        - {name: run, mountPath: /etc/sortase, readOnly: true}
        {{- end }}
        {{- with $values.extraVolumeMounts }}{{ include "sortase.fields" . | nindent 8 }}{{ end }}
  volumes:
    - {name: home, emptyDir: {sizeLimit: 1Gi}}
    - {name: tmp, emptyDir: {sizeLimit: {{ $group.scratch | default "20Gi" | quote }}}}
    - {name: scratch, emptyDir: {sizeLimit: {{ $group.scratch | default "20Gi" | quote }}}}
    - {name: shared-memory, emptyDir: {medium: Memory, sizeLimit: {{ $group.sharedMemory | default "1Gi" | quote }}}}
    {{- if and (eq .name "head") (ne $values.mode "cluster") }}
    - {name: run, configMap: {name: {{ include "sortase.jobName" $root | quote }}}}
    {{- end }}
    {{- with $values.extraVolumes }}{{ include "sortase.fields" . | nindent 4 }}{{ end }}
{{- end -}}

{{- /* Of a quantity such as 20Gi. */ -}}
{{- define "sortase.nineTenths" -}}
{{- $text := include "sortase.text" . -}}
{{- $number := regexFind "^[0-9.]+" $text -}}
{{- printf "%.2f" (mulf $number 0.9) | trimSuffix ".00" }}{{ trimPrefix $number $text -}}
{{- end -}}

{{- /* A pod template of the cluster. Needs root (the chart's context), group (its values), name, container, grace. */ -}}
{{- define "sortase.pod" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $group := .group -}}
metadata:
  labels:
    {{- include "sortase.labels" $root | nindent 4 }}
    sortase.io/group: {{ .name }}
    {{- with $group.labels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $group.annotations }}
  annotations: {{ toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "sortase.serviceAccount" $root }}
  {{- /* The autoscaler in the head talks to the API server; KubeRay gives it an account of its own only by default. */}}
  automountServiceAccountToken: {{ and (eq .name "head") $values.autoscaling.enabled }}
  restartPolicy: Never
  terminationGracePeriodSeconds: {{ add $values.drainSeconds 30 }}
  securityContext: {{ toYaml $values.podSecurityContext | nindent 4 }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets: {{ range . }}
    - name: {{ . }}
  {{- end }}
  {{- end }}
  {{- with $group.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $group.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $group.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $group.topologySpreadConstraints }}
  topologySpreadConstraints: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with concat (ternary $values.spotTolerations list ($group.spot | default false)) ($group.tolerations | default list) }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ .container }}
      image: {{ include "sortase.image" $root }}
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
        - {name: TMPDIR, value: /tmp}
        {{- if eq .name "head" }}
        {{- /* Stopping a job waits for its checkpoint; the driver's log is the container's too. */}}
        - {name: RAY_JOB_STOP_WAIT_TIME_S, value: {{ $values.drainSeconds | quote }}}
        - {name: SORTASE_LOG_COPY, value: /proc/1/fd/1}
        - {name: SORTASE_IMAGE, value: {{ include "sortase.image" $root | quote }}}
        {{- if eq $values.mode "job" }}
        - {name: SORTASE_SUBMISSION, value: {{ include "sortase.jobName" $root }}}
        {{- end }}
        {{- else }}
        - {name: RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S, value: {{ $values.drainSeconds | quote }}}
        {{- end }}
        {{- with $values.storage.endpoint }}
        - {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
        {{- end }}
        {{- with $values.storage.region }}
        - {name: AWS_REGION, value: {{ . | quote }}}
        {{- end }}
        {{- with $values.extraEnv }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- if or $values.storage.existingSecret $values.extraEnvFrom }}
      envFrom:
        {{- with $values.storage.existingSecret }}
        - secretRef: {name: {{ . }}}
        {{- end }}
        {{- with $values.extraEnvFrom }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- end }}
      volumeMounts:
        - {name: home, mountPath: /home/sortase}
        - {name: tmp, mountPath: /tmp}
        - {name: scratch, mountPath: /scratch}
        - {name: shared-memory, mountPath: /dev/shm}
        {{- if and (eq .name "head") (ne $values.mode "cluster") }}
        - {name: run, mountPath: /etc/sortase, readOnly: true}
        {{- end }}
        {{- with $values.extraVolumeMounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    - {name: home, emptyDir: {sizeLimit: 1Gi}}
    - {name: tmp, emptyDir: {sizeLimit: {{ $group.scratch | default "20Gi" }}}}
    - {name: scratch, emptyDir: {sizeLimit: {{ $group.scratch | default "20Gi" }}}}
    - {name: shared-memory, emptyDir: {medium: Memory, sizeLimit: {{ $group.sharedMemory | default "1Gi" }}}}
    {{- if and (eq .name "head") (ne $values.mode "cluster") }}
    - {name: run, configMap: {name: {{ include "sortase.jobName" $root }}}}
    {{- end }}
    {{- with $values.extraVolumes }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end -}}

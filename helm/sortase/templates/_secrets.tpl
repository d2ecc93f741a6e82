{{- /* Secrets in values are refused before anything is stored: Helm keeps values, and pods show their environment. */ -}}
{{- define "sortase.checkSecrets" -}}
{{- range .Values.extraEnv -}}
{{- $name := .name | default "" | toString -}}
{{- if and (include "sortase.namesSecret" $name) (toString (.value | default "")) -}}
{{- fail (printf "extraEnv: the value of %s is a secret by its name; put it into a Secret and name that: storage.existingSecret, extraEnvFrom or valueFrom.secretKeyRef" $name) -}}
{{- end -}}
{{- if include "sortase.hasCredential" (dict "url" (.value | default "")) -}}
{{- fail (printf "extraEnv: the value of %s is a URL with a credential in it; put it into a Secret and name that: storage.existingSecret, extraEnvFrom or valueFrom.secretKeyRef" $name) -}}
{{- end -}}
{{- end -}}
{{- $run := include "sortase.settings" . | fromYaml -}}
{{- range $section, $settings := dict "run" $run "job" .Values.job "storage" .Values.storage -}}
{{- if include "sortase.hasCredential" $settings -}}
{{- fail (printf "%s holds a credential, which has no place in a configuration: it is stored and shown. Put it into a Secret and name that: storage.existingSecret or extraEnvFrom" $section) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* "true" for the name of an environment variable that says so. A test holds both equal to src/sortase/redact.py. */ -}}
{{- define "sortase.namesSecret" -}}
{{- if and (regexMatch "(?i)key|token|secret|pass|credential|connection" .) (not (regexMatch "(?i)_(path|file|dir|folder)$" .)) }}true{{ end -}}
{{- end -}}

{{- /* "true" for settings with a credential in a URL, or with text under the name of one; as sortase itself says. */ -}}
{{- define "sortase.hasCredential" -}}
{{- $text := toRawJson (. | default dict) -}}
{{- $tokens := "(access|api|auth|bearer|hf|hub|id|personal|refresh|security|session|tracking)[_-]?token" -}}
{{- $keys := "(access|account|api|private|secret|shared|signing)[_-]?key([_-]id)?" -}}
{{- $name := printf "(([a-z0-9_.-]*[_.-])?(secret|password|passwd|credentials?|%s|%s))" $tokens $keys -}}
{{- $signed := "x-(amz|goog)-(signature|credential|security-token)|signature|sig|token|auth|code" -}}
{{- $userinfo := `://[^/\s?#:@\["\\]*:([0-9]{0,5}([^0-9/?#"\s@][^"\s]*)?|[0-9]{6,}[^"\s]*)@` -}}
{{- if regexMatch $userinfo $text }}true{{ end -}}
{{- if regexMatch `(?i)https?://[^/\s?#"]+@` $text }}true{{ end -}}
{{- if regexMatch (printf `(?i)://[^"\s]*[?&;](%s|%s)=[^&"\s]` $signed $name) $text }}true{{ end -}}
{{- /* Not what TrainingArguments.to_dict() puts in a token's place: <HUB_TOKEN>. */ -}}
{{- $value := `([^"<]|<([^A-Z_"]|")|<[A-Z_]+([^A-Z_>"]|")|<[A-Z_]+>[^"])` -}}
{{- if regexMatch (printf `"(?i:%s|token)":"%s` $name $value) $text }}true{{ end -}}
{{- end -}}

{{- /* What Kubernetes wants as text stays text, whatever YAML would take it for: true, 4711, 007, 1e3. */ -}}
{{- define "sortase.text" -}}
{{- if kindIs "float64" . -}}
{{- /* Helm's numbers have come through JSON: 4711000 is 4.711e+06. */ -}}
{{- ternary (printf "%.0f" .) (toString .) (eq . (floor .)) -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{- /* Labels, annotations and the like: all values are text. */ -}}
{{- define "sortase.texts" -}}
{{- get (include "sortase.typed" (dict "value" . "texts" true) | fromJson) "made" | toYaml -}}
{{- end -}}

{{- /* Tolerations, volumes and the like: text, but for what Kubernetes has as numbers and truth values. */ -}}
{{- define "sortase.fields" -}}
{{- get (include "sortase.typed" (dict "value" . "texts" false) | fromJson) "made" | toYaml -}}
{{- end -}}

{{- define "sortase.typed" -}}
{{- $numbers := list "tolerationSeconds" "weight" "maxSkew" "minDomains" "mode" "defaultMode" "expirationSeconds" "partition" "lun" "port" "endPort" -}}
{{- $truths := list "readOnly" "optional" "chapAuthDiscovery" "chapAuthSession" -}}
{{- $maps := list "matchLabels" "labels" "annotations" "volumeAttributes" "options" -}}
{{- $made := dict -}}
{{- if kindIs "map" .value -}}
{{- $texts := .texts -}}
{{- range $key, $value := .value -}}
{{- if and (not $texts) (has $key (concat $numbers $truths)) -}}
{{- $_ := set $made $key $value -}}
{{- else if not (kindIs "invalid" $value) -}}
{{- $inner := include "sortase.typed" (dict "value" $value "texts" (or $texts (has $key $maps))) | fromJson -}}
{{- $_ := set $made $key $inner.made -}}
{{- end -}}
{{- end -}}
{{- else if kindIs "slice" .value -}}
{{- $texts := .texts -}}
{{- $made = list -}}
{{- range .value -}}
{{- $inner := include "sortase.typed" (dict "value" . "texts" $texts) | fromJson -}}
{{- $made = append $made $inner.made -}}
{{- end -}}
{{- else -}}
{{- $made = include "sortase.text" .value -}}
{{- end -}}
{{- dict "made" $made | toJson -}}
{{- end -}}

{{- define "larder.name" -}}
{{- $name := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) }}
{{- $name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "larder.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "larder.labels" -}}
{{ include "larder.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "larder.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ default (include "larder.name" .) .Values.serviceAccount.name }}
{{- else }}{{ default "default" .Values.serviceAccount.name }}{{ end }}
{{- end }}

{{- define "larder.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}

{{- /* The namespace file. Numbers are written out: a template turns 1000000 into 1e+06. */}}
{{- define "larder.namespace" -}}
mounts:
{{- range .Values.mounts }}
  - path: {{ .path | quote }}
    {{- range $key, $value := omit . "path" }}
    {{ $key }}: {{ if kindIs "float64" $value }}{{ int64 $value }}{{ else }}{{ toJson $value }}{{ end }}
    {{- end }}
{{- end }}
{{- end }}

{{- define "larder.coordinatorConfiguration" -}}
socket: /run/larder/coordinator.sock
stateDirectory: {{ .Values.stateDirectory | quote }}
cache:
  blockSize: {{ .Values.cache.blockSize }}
  tiers:
    {{- if .Values.cache.ram.enabled }}
    - {kind: ram, path: /cache/ram, size: {{ .Values.cache.ram.size }}}
    {{- end }}
    - {kind: disk, path: {{ .Values.cache.disk.path | quote }}, size: {{ .Values.cache.disk.size }}, reserve: {{ .Values.cache.disk.reserve }}}
http: {listen: "0.0.0.0:{{ .Values.http.port }}"}
logLevel: {{ .Values.logLevel }}
{{- end }}

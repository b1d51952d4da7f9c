{{- define "examgate.labels" -}}
{{ include "examgate.selector" . }}
app.kubernetes.io/part-of: examgate
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "examgate.selector" -}}
app.kubernetes.io/name: examgate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Selector labels. They are immutable. */}}
{{- define "plegd.selector" -}}
app.kubernetes.io/name: plegd
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "plegd.labels" -}}
{{ include "plegd.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "plegd.metadata" -}}
name: {{ .Release.Name }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "plegd.labels" . | nindent 2 }}
{{- end }}

{{- define "plegd.image" -}}
{{ .Values.image.repository }}
{{- if .Values.image.digest -}}
@{{ .Values.image.digest }}
{{- else -}}
:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

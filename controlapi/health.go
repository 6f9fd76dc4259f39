package controlapi

// Health is the answer of /healthz and /readyz when all is well.
type Health struct {
	Status string `json:"status" doc:"ok or ready"`
}

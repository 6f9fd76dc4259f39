package controlapi

// ContentType labels the JSON of a refusal as RFC 9457 asks.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

package controlapi

// Code is the stable reason of a refusal; scripts and clients switch on it.
type Code string

const (
	CodeInvalid        Code = "invalid"         // the request is malformed
	CodeUnauthorized   Code = "unauthorized"    // no or unknown credential; a deleted device
	CodeKeyUnknown     Code = "reg_key_unknown" // no such registration key, or it was deleted
	CodeKeyExpired     Code = "reg_key_expired"
	CodeKeyUsed        Code = "reg_key_used"      // single-use, used by another device
	CodeKeyRole        Code = "reg_key_role"      // for devices where a relay joins, or the other way
	CodeProof          Code = "proof_invalid"     // possession of the WireGuard key not proved
	CodeChallenge      Code = "challenge_expired" // ask for a new challenge and try again
	CodeNameInvalid    Code = "name_invalid"
	CodeNameTaken      Code = "name_taken"
	CodeAddressInvalid Code = "address_invalid" // request_ip outside the range or reserved
	CodeAddressTaken   Code = "address_taken"
	CodeExhausted      Code = "addresses_exhausted"
	CodeConnected      Code = "device_connected" // reclaim while the old device is connected
	CodeNotFound       Code = "not_found"
	CodeRateLimited    Code = "rate_limited" // Retry-After says when
	CodeTooLarge       Code = "too_large"
	CodeInternal       Code = "internal"
)

// Problem is the body of every refusal (RFC 9457, application/problem+json).
// As an error it reads as a sentence; Hint says what to do instead.
type Problem struct {
	Status int    `json:"status"`
	Title  string `json:"title,omitempty"`
	Detail string `json:"detail,omitempty"`
	Code   Code   `json:"code"`
	Hint   string `json:"hint,omitempty"`
}

// Error returns the detail, or the title where there is none.
func (p *Problem) Error() string {
	switch {
	case p.Detail != "":
		return p.Detail
	case p.Title != "":
		return p.Title
	}
	return string(p.Code)
}

// GetStatus returns the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

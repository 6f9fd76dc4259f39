package rules
type Rule struct{}

package cli

import (
	"context"
	"time"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/node"
	"nexd/state"
)

const probeTimeout = 10 * time.Second

// probeService asks the control service once whether it is there. It returns
// nil when the configuration names no service: then it is the one that was
// joined before, and a device that cannot have joined any will not start.
func probeService(ctx context.Context, c *node.Config) *checkService {
	var key controlapi.RegKey
	if c.RegKey != "" {
		key, _ = controlapi.ParseRegKey(c.RegKey) // checked by Validate
	}
	target := c.ServiceURL
	if target == "" {
		target = key.ServiceURL
	}
	joined := !c.Ephemeral && state.Exists(c.StateDir)
	if target == "" && joined {
		return nil
	}
	s := &checkService{URL: target}
	err := node.ErrNotJoined
	if joined || c.RegKey != "" {
		err = reach(ctx, target, key.Pin, c)
	}
	if err != nil {
		e := explain(err)
		s.Error = e.Message
		if e.Hint != "" {
			s.Error += " (" + e.Hint + ")"
		}
	}
	return s
}

// reach is probeService's attempt, by the rules of trust a node has.
func reach(ctx context.Context, target string, pin controlapi.Pin, c *node.Config) error {
	client, err := controlclient.New(controlclient.Config{ServiceURL: target, Pin: pin, CAFile: c.CAFile, Insecure: c.InsecureSkipTLSVerify})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return client.Probe(ctx)
}

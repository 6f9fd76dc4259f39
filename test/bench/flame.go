package main

import "errors"

func flame([]string) error { return errors.New("not yet") }

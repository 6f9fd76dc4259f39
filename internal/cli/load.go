package cli

import (
	"errors"
	"io/fs"
)

// loadFile resolves the settings with the config file, if one is named.
func (s *settings) loadFile() error {
	path, err := s.configPath()
	if err != nil {
		return err
	}
	file, err := s.readConfig(path)
	if err != nil {
		return err
	}
	return s.resolve(file)
}

// spareFile lets a start go on when a secret's file is gone: the secret is
// needed once, and may well be taken away when it did its work.
func (s *settings) spareFile(name string, gone *error) {
	file := s.byName[name]
	read := file.assign
	file.assign = func(raws []string) error {
		err := read(raws)
		if errors.Is(err, fs.ErrNotExist) {
			*gone, err = err, nil
		}
		return err
	}
}

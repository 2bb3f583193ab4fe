package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// settings is where the values of start's flags are from: the command line, or config.toml in the data folder.
type settings struct {
	cmd    *cobra.Command
	file   string
	inFile map[string]bool // the flags whose value is the file's
}

// loadConfig gives the flags that were not set on the command line the values that config.toml in the data folder has for
// them. A key that no flag has is an error.
func loadConfig(cmd *cobra.Command, dir string) (*settings, error) {
	s := &settings{cmd: cmd, file: filepath.Join(dir, "config.toml"), inFile: map[string]bool{}}
	var conf map[string]any
	if _, err := toml.DecodeFile(s.file, &conf); errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) {
			return nil, err // names the file
		}
		return nil, fmt.Errorf("%s: %w", s.file, err)
	}
	for _, key := range slices.Sorted(maps.Keys(conf)) {
		flag := cmd.LocalNonPersistentFlags().Lookup(key)
		if flag == nil || key == "help" {
			return nil, fmt.Errorf("%s: there is no setting %q; 'charkha start --help' lists them", s.file, key)
		}
		if key == "new-feed" {
			// A file says it at every start: also after a restored backup, when it is no longer true.
			return nil, fmt.Errorf("%s: new-feed is no setting: say --new-feed once, when you start the node for the first time", s.file)
		}
		if flag.Changed {
			continue
		}
		s.inFile[key] = true
		if err := setFlag(cmd, flag, conf[key]); err != nil {
			return nil, s.bad(key, err)
		}
	}
	return s, nil
}

// bad is the error of a value that cannot be taken. It names the place that has it.
func (s *settings) bad(key string, err error) error {
	if s.inFile[key] {
		return fmt.Errorf("%s: %s: %w", s.file, key, err)
	}
	return usage(s.cmd, fmt.Errorf("--%s: %w", key, err))
}

func setFlag(cmd *cobra.Command, flag *pflag.Flag, value any) error {
	list, isList := value.([]any)
	slice, takesList := flag.Value.(pflag.SliceValue)
	if isList && !takesList {
		return errors.New("one value is wanted, not a list")
	}
	if !isList {
		list = []any{value}
	}
	var texts []string
	for _, v := range list {
		switch v.(type) {
		case string, bool, int64, float64:
		default:
			return errors.New("a text, a number, true or false is wanted")
		}
		texts = append(texts, fmt.Sprint(v))
	}
	if takesList {
		return slice.Replace(texts)
	}
	return wanted(cmd.Flags().Set(flag.Name, texts[0]))
}

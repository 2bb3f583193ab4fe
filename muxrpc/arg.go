package muxrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Arg is one argument of a method, or one option in an object of them.
type Arg struct {
	Name string
	// Type is what JSON may stand here: one of any, string, number, integer, boolean, object, array, or a name of one's own
	// that does not begin with a small letter, such as FeedId, for a string that the handler itself looks at; or several of
	// these with "|" between them: "FeedId|object". integer is a number without a fraction, however it is written.
	Type     string
	Optional bool   // it may be missing or null
	Doc      string // one line for help
	// Options are what is known to stand in an object. More of them are ignored, as JS does. Only where Type allows an
	// object; they are looked at when it is one. An optional one may be missing or null.
	Options []Arg
}

var jsonTypes = []string{"any", "string", "number", "integer", "boolean", "object", "array"}

// validArgs says what is wrong with what a method declares.
func validArgs(args []Arg) error {
	names := map[string]bool{} // help shows arguments and options in one list
	optional := false
	for _, a := range args {
		if optional && !a.Optional {
			return fmt.Errorf("argument %q: it must be optional like the one before it", a.Name)
		}
		optional = a.Optional
		for _, each := range append([]Arg{a}, a.Options...) {
			if each.Name == "" || names[each.Name] {
				return fmt.Errorf("argument %q: the name is missing or there twice", each.Name)
			}
			names[each.Name] = true
			for t := range strings.SplitSeq(each.Type, "|") {
				if t == "" || t[0] >= 'a' && t[0] <= 'z' && !slices.Contains(jsonTypes, t) {
					return fmt.Errorf("argument %q: unknown type %q", each.Name, t)
				}
			}
		}
		if len(a.Options) > 0 && !slices.Contains(strings.Split(a.Type, "|"), "object") {
			return fmt.Errorf("argument %q: options need an object", a.Name)
		}
		for _, o := range a.Options {
			if len(o.Options) > 0 {
				return fmt.Errorf("argument %q: options of an option", o.Name)
			}
		}
	}
	return nil
}

// check compares the arguments with those that the method declares. Its errors are worded for the caller.
func (r *Request) check() error {
	if len(r.declared) == 0 {
		return nil
	}
	var args []json.RawMessage
	if err := json.Unmarshal(r.Args, &args); err != nil {
		return fmt.Errorf("%s: arguments are no array", r.Name)
	}
	for i, a := range r.declared {
		var arg json.RawMessage
		if i < len(args) {
			arg = args[i]
		}
		if err := a.check("argument", arg); err != nil {
			return fmt.Errorf("%s: %w", r.Name, err)
		}
		if len(a.Options) == 0 || len(arg) == 0 || arg[0] != '{' {
			continue
		}
		var options map[string]json.RawMessage
		if err := json.Unmarshal(arg, &options); err != nil {
			return fmt.Errorf("%s: argument %s: %w", r.Name, a.Name, err)
		}
		for _, o := range a.Options {
			if err := o.check("option", options[o.Name]); err != nil {
				return fmt.Errorf("%s: %w", r.Name, err)
			}
		}
	}
	return nil
}

// check looks at one value, which is valid JSON, or empty when it is missing.
func (a *Arg) check(what string, v json.RawMessage) error {
	if v = bytes.TrimSpace(v); len(v) == 0 || string(v) == "null" {
		if a.Optional {
			return nil
		}
		return fmt.Errorf("the %s %s is missing", what, a.Name)
	}
	for t := range strings.SplitSeq(a.Type, "|") {
		if fits(t, v) {
			return nil
		}
	}
	return fmt.Errorf("%s %s: %s does not fit here, %s is wanted", what, a.Name, kindOf(v), strings.ReplaceAll(a.Type, "|", " or "))
}

func fits(typ string, v json.RawMessage) bool {
	switch typ {
	case "any":
		return true
	case "object":
		return v[0] == '{'
	case "array":
		return v[0] == '['
	case "boolean":
		return v[0] == 't' || v[0] == 'f'
	case "number":
		return kindOf(v) == "a number"
	case "integer":
		var x float64
		return kindOf(v) == "a number" && json.Unmarshal(v, &x) == nil && x == float64(int64(x))
	}
	return v[0] == '"'
}

func kindOf(v json.RawMessage) string {
	switch v[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	}
	return "a number"
}

// usage is a command or a namespace in the form that npm muxrpc-usage reads: a command has a type, a namespace commands.
// Sub-namespaces have a help of their own.
type usage struct {
	Type        Kind                 `json:"type,omitempty"`
	Description string               `json:"description"`
	Commands    map[string]usage     `json:"commands,omitempty"`
	Args        *map[string]usageArg `json:"args,omitempty"` // of a command always there
}

type usageArg struct {
	Type        string `json:"type"`
	Description string `json:"description"`
	// Optional is false only for what an object must have. npm ssb-cli puts all that it is told on its command line into one
	// object, and refuses to run without what is not optional there; an argument that is no object stands alone, unnamed.
	Optional *bool `json:"optional,omitempty"`
}

func (a *Arg) usage(optional bool) usageArg {
	typ := a.Type
	if optional && typ == "array" {
		typ = "Array" // npm ssb-cli sends an "array" that nobody gave it as [null]
	}
	return usageArg{typ, a.Doc, &optional}
}

// addHelp adds "help" for everything and for each namespace, taking the description of each from docs, and out of it.
func (r *Registry) addHelp(docs map[string]string) error {
	groups := map[string]map[string]usage{}
	own := map[string]bool{}
	for _, m := range r.methods {
		folder, name := "", m.Name
		if i := strings.LastIndexByte(m.Name, '.'); i >= 0 {
			folder, name = m.Name[:i], m.Name[i+1:]
		}
		if groups[folder] == nil {
			groups[folder] = map[string]usage{}
		}
		args := map[string]usageArg{}
		for _, a := range m.Args {
			if len(a.Options) == 0 || a.Type != "object" {
				told := a.usage(a.Optional)
				if !a.Optional {
					told.Optional = nil
				}
				args[a.Name] = told
			}
			for _, o := range a.Options {
				// Where the object may be missing, or something else in its place, so may all that is in it.
				args[o.Name] = o.usage(o.Optional || a.Optional || a.Type != "object")
			}
		}
		groups[folder][name] = usage{Type: m.Kind, Description: m.Doc, Args: &args}
		own[m.Name] = true
	}
	for folder, commands := range groups {
		names := make([]string, 0, len(commands))
		for name := range commands {
			names = append(names, name)
		}
		slices.Sort(names)
		u := usage{Description: docs[folder], Commands: commands}
		if u.Description == "" {
			u.Description = strings.Join(names, ", ")
		}
		delete(docs, folder)
		m := Method{Name: "help", Kind: Sync, Doc: "what can be called, and how"}
		if folder != "" {
			m.Name = folder + ".help"
		}
		if own[m.Name] {
			continue
		}
		commands["help"] = usage{Type: Sync, Description: m.Doc, Args: &map[string]usageArg{}}
		data, err := json.Marshal(u)
		if err != nil {
			return err
		}
		m.Call = func(context.Context, *Request) (any, error) { return json.RawMessage(data), nil }
		r.methods = append(r.methods, m)
	}
	return nil
}

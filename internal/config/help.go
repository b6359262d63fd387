package config

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// writeHelp writes the help of a command or, where it is nil, the general help, which has the default command's settings.
func writeHelp(w io.Writer, app *kong.Application, command *kong.Node) error {
	var b strings.Builder
	if command == nil {
		command = app.DefaultCmd
		fmt.Fprintf(&b, "Usage: %s [COMMAND] [--SETTING=VALUE ...]\n\n%s\nCommands:\n", app.Name, wrap(app.Help, ""))
		for _, c := range app.Children {
			fmt.Fprintf(&b, "  %-9s %s\n", c.Name, c.Help)
		}
	} else {
		usage := ""
		for _, argument := range command.Positional {
			usage += " " + strings.ToUpper(argument.Name)
		}
		if len(command.Flags) > 0 {
			usage += " [--SETTING=VALUE ...]"
		}
		fmt.Fprintf(&b, "Usage: %s %s%s\n\n%s", app.Name, command.Name, usage, wrap(command.Help, ""))
	}
	if len(command.Flags) > 0 {
		fmt.Fprintf(&b, "\n%s", wrap("A setting is a flag or an environment variable; the flag wins, and an empty variable means the default.", ""))
	}
	for _, group := range groups(command) {
		fmt.Fprintf(&b, "\n%s:\n", group[0].Group.Title)
		for _, flag := range group {
			fmt.Fprintf(&b, "  --%s, %s", flag.Name, flag.Tag.Get("var"))
			if flag.HasDefault {
				fmt.Fprintf(&b, " (default %s)", flag.Default)
			}
			b.WriteByte('\n')
			b.WriteString(wrap(flag.Help+" Allowed: "+allowed(flag)+".", "        "))
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("write the help: %w", err)
	}
	return nil
}

// Reference renders the settings of "weir run" as Markdown: for each group a heading and a table.
func Reference() (string, error) {
	parser, err := newParser(&grammar{})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for i, group := range groups(parser.Model.DefaultCmd) {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "### %s\n\n| variable | flag | default | |\n|---|---|---|---|\n", group[0].Group.Title)
		for _, flag := range group {
			initial := "unset"
			if flag.HasDefault {
				initial = "`" + flag.Default + "`"
			}
			fmt.Fprintf(&b, "| `%s` | `--%s` | %s | %s Allowed: %s. |\n",
				flag.Tag.Get("var"), flag.Name, initial, flag.Help, allowed(flag))
		}
	}
	return b.String(), nil
}

// groups returns a command's settings, those of one group together, in the order of Settings.
func groups(command *kong.Node) (all [][]*kong.Flag) {
	for _, flag := range command.Flags {
		if last := len(all) - 1; last >= 0 && all[last][0].Group.Key == flag.Group.Key {
			all[last] = append(all[last], flag)
		} else {
			all = append(all, []*kong.Flag{flag})
		}
	}
	return all
}

// variables returns the names of the variables of every command's settings.
func variables(app *kong.Node) (names []string) {
	for _, command := range app.Children {
		for _, flag := range command.Flags {
			names = append(names, flag.Tag.Get("var"))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// allowed says what a setting may be. Every setting is of some kind.
func allowed(flag *kong.Flag) string {
	return flag.Mapper.(interface{ allowed(*kong.Tag) string }).allowed(flag.Tag)
}

// wrap breaks text between words into lines of at most 80 columns that begin with indent.
func wrap(text, indent string) string {
	const columns = 80
	var b strings.Builder
	width := 0
	for _, word := range strings.Fields(text) {
		switch {
		case width == 0:
			b.WriteString(indent + word)
			width = len(indent) + len(word)
		case width+1+len(word) > columns:
			b.WriteString("\n" + indent + word)
			width = len(indent) + len(word)
		default:
			b.WriteString(" " + word)
			width += 1 + len(word)
		}
	}
	return b.String() + "\n"
}

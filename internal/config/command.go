package config

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
)

// Command is what the command line asks for.
type Command string

// The values of Command.
const (
	CommandRun     Command = "run"
	CommandReplay  Command = "replay"
	CommandUnpin   Command = "unpin"
	CommandVersion Command = "version"
	CommandHelp    Command = "help" // done already: the help has been written
)

// Invocation is a command line and its environment, understood.
type Invocation struct {
	Command  Command
	Settings Settings // of CommandRun; of CommandReplay and CommandUnpin, only those that are their own
	File     string   // of CommandReplay
	Notices  []string // what the log should warn of: settings that were accepted without effect, or that are not safe
}

// grammar is the command line: a field for each command, its settings within.
type grammar struct {
	Help      helpFlag    `short:"h"`
	VersionOf versionFlag `name:"version"` // the same as the command

	Run     Settings `cmd:"" default:"withargs" help:"count packets and report flows (the default)"`
	Replay  replay   `cmd:"" help:"print the flows of a pcap or pcapng file; - is standard input"`
	Unpin   Settings `cmd:"" help:"detach and remove what a stopped agent left in AGENT_PIN_DIR"`
	Version struct{} `cmd:"" help:"print the version"`
	HelpOf  struct{} `cmd:"" name:"help" help:"print this help"`
}

// replay has all Settings, of which newParser leaves it its own.
type replay struct {
	File string `arg:""`
	Settings
}

// helpFlag ends the parsing as soon as it is seen, so that help is given whatever else is wrong.
type helpFlag bool

var errHelp = errors.New("help was asked for")

// BeforeReset is kong's hook for a flag that was given; it writes the help of the command it was given to.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	if err := writeHelp(ctx.Stdout, ctx.Model, ctx.Selected()); err != nil {
		return err
	}
	return errHelp
}

// IgnoreDefault keeps kong from choosing the default command, whose help is part of the general help.
func (helpFlag) IgnoreDefault() {}

// versionFlag ends the parsing likewise.
type versionFlag bool

var errVersion = errors.New("the version was asked for")

// BeforeReset is kong's hook for a flag that was given.
func (versionFlag) BeforeReset() error { return errVersion }

// IgnoreDefault keeps kong from choosing the default command.
func (versionFlag) IgnoreDefault() {}

// Parse reads args (without the program's name) and environ ("NAME=VALUE" each, as os.Environ gives it). A flag wins
// over its variable, and an empty variable is as good as none. Help goes to stdout. Commands without settings ignore the
// environment. Any error is one line that names what was given and says what is allowed.
func Parse(args, environ []string, stdout io.Writer) (Invocation, error) {
	var cli grammar
	env := newEnvironment(environ)
	parser, err := newParser(&cli, kong.Writers(stdout, io.Discard), kong.Resolvers(kong.ResolverFunc(env.resolve)))
	if err != nil {
		return Invocation{}, err
	}
	ctx, err := parser.Parse(args)
	switch {
	case errors.Is(err, errHelp):
		return Invocation{Command: CommandHelp}, nil
	case errors.Is(err, errVersion):
		return Invocation{Command: CommandVersion}, nil
	case err != nil:
		return Invocation{}, plainError(hyphenated(err, args, parser.Model.Node))
	}
	invocation := Invocation{Command: Command(ctx.Selected().Name)}
	if invocation.Command == CommandHelp {
		if err := writeHelp(stdout, parser.Model, nil); err != nil {
			return Invocation{}, err
		}
	}
	if len(ctx.Selected().Flags) == 0 {
		return invocation, nil
	}
	switch invocation.Command {
	case CommandReplay:
		invocation.Settings, invocation.File = cli.Replay.Settings, cli.Replay.File
	case CommandUnpin:
		invocation.Settings = cli.Unpin
	default:
		invocation.Settings = cli.Run
	}
	invocation.Notices, err = env.check(variables(parser.Model.Node))
	if err != nil {
		return Invocation{}, err
	}
	if err := invocation.Settings.checkCredentials(); err != nil {
		return Invocation{}, err
	}
	invocation.Notices = append(invocation.Notices, invocation.Settings.exposure()...)
	return invocation, nil
}

func newParser(cli *grammar, options ...kong.Option) (*kong.Kong, error) {
	parser, err := kong.New(cli, append(options, append(kinds(),
		kong.Name("weir"),
		kong.Description("Counts every packet on a host's network interfaces inside the Linux kernel and reports the flows they belong to."),
		kong.NoDefaultHelp(),
	)...)...)
	if err != nil {
		return nil, fmt.Errorf("build the command line: %w", err)
	}
	for _, command := range parser.Model.Children {
		if command != parser.Model.DefaultCmd {
			command.Flags = slices.DeleteFunc(command.Flags, func(f *kong.Flag) bool { return !f.Tag.Has(command.Name) })
		}
	}
	return parser, nil
}

// credentials are what stands before the host of a URL that was given in the wrong place.
var credentials = regexp.MustCompile(`\S*:\S*@`)

// plainError makes one line of kong's error: of a bad value, only what badValue says, which has the name that the user
// gave it under; else kong's words.
func plainError(err error) error {
	if bad, ok := errors.AsType[*badValue](err); ok {
		return bad
	}
	return errors.New(credentials.ReplaceAllString(printable(err.Error()), "***@") + "; see weir --help")
}

// hyphenated says instead of kong's error about a short flag that there is none, if the long one of the same name was meant.
func hyphenated(err error, args []string, app *kong.Node) error {
	for _, arg := range args {
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if len(name) > 1 && strings.HasPrefix(err.Error(), "unknown flag -"+name[:1]) && isFlag(app, name) {
			return fmt.Errorf("unknown flag -%s, did you mean %q?", name, "--"+name)
		}
	}
	return err
}

// isFlag says whether any command has a flag of that name.
func isFlag(app *kong.Node, name string) bool {
	named := func(f *kong.Flag) bool { return f.Name == name }
	return slices.ContainsFunc(app.Flags, named) ||
		slices.ContainsFunc(app.Children, func(c *kong.Node) bool { return slices.ContainsFunc(c.Flags, named) })
}

// printable replaces what does not print, which an argument or a variable's name may have brought in.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, text)
}

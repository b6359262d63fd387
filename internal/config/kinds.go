package config

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"
	"go.uber.org/zap/zapcore"
)

// kinds tells kong how each type of setting is read.
func kinds() []kong.Option {
	return []kong.Option{
		ofType(ranged("a whole number", parseWhole[int])),
		ofType(ranged("a whole number", parseWhole[uint32])),
		ofType(ranged("seconds, or a duration such as 1m30s,", parseDuration)),
		ofType(ranged("bytes, or a size such as 64MiB or 1GB,", parseByteSize)),
		ofType(oneOf(IngressAuto, IngressXDP, IngressXDPGeneric, IngressTC)),
		ofType(oneOf(ZonesNone, ZonesVLAN)),
		ofType(free("none, or any of vxlan, geneve, gre, ipip, gtpu and erspan, comma-separated, vxlan, geneve and gtpu with their UDP port if it is not IANA's, as in vxlan:8472", parseDecap)),
		ofType(oneOf(ShapeFlow, ShapeConnection)),
		ofType(oneOf(FormatAuto, FormatArray, FormatNDJSON, FormatSingle)),
		ofType(oneOf(false, true)),
		ofType(free("never, always, or a duration from 10ms to 1h", parseSpoolSync)),
		ofType(oneOf(CompressNone, CompressGzip, CompressZstd)),
		ofType(oneOf(zapcore.DebugLevel, zapcore.InfoLevel, zapcore.WarnLevel, zapcore.ErrorLevel)),
		ofType(oneOf(LogAuto, LogConsole, LogJSON)),
		ofType(free(`auto, all, or names and globs, comma-separated, each name at most 15 bytes and without "/"`, parseInterfaces)),
		ofType(free("absolute paths or globs, comma-separated", parsePaths)),
		ofType(reasoned(endpoints, parseEndpoint)),
		ofType(reasoned("an expression of pcap-filter(7) for Ethernet, without host names", parseFilter)),
		ofType(fingerprints()),
		kong.NamedMapper("path", free("a path", parsePath)),
		kong.NamedMapper("hostname", free("a host name of at most 253 letters, digits, dots, hyphens and underscores", parseHostname)),
		kong.NamedMapper("listen", free("HOST:PORT with a port from 0 to 65535", parseListen)),
	}
}

// kind is how values of one type are described and read.
type kind[T any] struct {
	want  func(tag *kong.Tag) string // what a value may be, in words that can follow "want"
	parse func(text string, tag *kong.Tag) (T, bool)
	fault func(text string) string // what is wrong with a value as it was given, where want would not help; may be nil
}

func ofType[T any](k kind[T]) kong.Option { return kong.TypeMapper(reflect.TypeFor[T](), k) }

// allowed says what a setting with this tag may be.
func (k kind[T]) allowed(tag *kong.Tag) string { return k.want(tag) }

// Decode makes a kind a kong.Mapper. Its errors are of type *badValue.
func (k kind[T]) Decode(ctx *kong.DecodeContext, target reflect.Value) error {
	flag, tag := "--"+ctx.Value.Name, ctx.Value.Tag
	token := ctx.Scan.Pop()
	if token.IsEOL() || token.Type == kong.UntypedToken && strings.HasPrefix(token.String(), "--") {
		return &badValue{flag + " has no value", "want " + k.want(tag)}
	}
	from, ok := token.Value.(given)
	if !ok {
		from = given{flag, token.String()}
	}
	value, ok := k.parse(strings.TrimSpace(from.text), tag)
	if !ok {
		why := "want " + k.want(tag)
		if k.fault != nil {
			why = k.fault(from.text)
		}
		return &badValue{from.String(), why}
	}
	target.Set(reflect.ValueOf(value))
	return nil
}

// free is a kind whose settings' tags add nothing.
func free[T any](want string, parse func(string) (T, bool)) kind[T] {
	return kind[T]{
		want:  func(*kong.Tag) string { return want },
		parse: func(text string, _ *kong.Tag) (T, bool) { return parse(text) },
	}
}

// reasoned is a kind whose values can be wrong in more ways than one sentence could exclude: the errors of parse say how.
func reasoned[T any](want string, parse func(string) (T, error)) kind[T] {
	k := free(want, func(text string) (T, bool) {
		value, err := parse(text)
		return value, err == nil
	})
	k.fault = func(text string) string {
		_, err := parse(text)
		return err.Error()
	}
	return k
}

// ranged is a kind whose settings' tags give the least and the greatest value, written as values are.
func ranged[T cmp.Ordered](noun string, parse func(string) (T, bool)) kind[T] {
	return kind[T]{
		want: func(tag *kong.Tag) string {
			return fmt.Sprintf("%s from %s to %s", noun, tag.Get("min"), tag.Get("max"))
		},
		parse: func(text string, tag *kong.Tag) (T, bool) {
			value, ok := parse(text)
			least, okLeast := parse(tag.Get("min"))
			most, okMost := parse(tag.Get("max"))
			return value, ok && okLeast && okMost && value >= least && value <= most
		},
	}
}

// oneOf is a kind of a few values, each known by its name in any case.
func oneOf[T any](values ...T) kind[T] {
	names := make([]string, len(values))
	for i, value := range values {
		names[i] = fmt.Sprint(value)
	}
	last := len(names) - 1
	return free(strings.Join(names[:last], ", ")+" or "+names[last], func(text string) (value T, ok bool) {
		for i, name := range names {
			if strings.EqualFold(text, name) {
				return values[i], true
			}
		}
		return value, false
	})
}

func parseWhole[T int | uint32](text string) (T, bool) {
	n, err := strconv.ParseUint(text, 10, 31) // 31 bits fit both
	return T(n), err == nil
}

// parseDuration reads Go's notation and, as go-Tracer did, a bare number of seconds.
func parseDuration(text string) (time.Duration, bool) {
	if strings.Trim(text, "0123456789.") == "" {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

// parseByteSize reads a whole number, alone or with a unit: K, M and G of 1000 (KB) or 1024 (KiB), in any case.
func parseByteSize(text string) (ByteSize, bool) {
	unit := strings.TrimLeft(text, "0123456789")
	n, err := strconv.ParseInt(strings.TrimSuffix(text, unit), 10, 64)
	factor := int64(1)
	switch strings.ToUpper(strings.TrimLeft(unit, " ")) {
	case "", "B":
	case "KB":
		factor = 1e3
	case "MB":
		factor = 1e6
	case "GB":
		factor = 1e9
	case "KIB":
		factor = 1 << 10
	case "MIB":
		factor = 1 << 20
	case "GIB":
		factor = 1 << 30
	default:
		return 0, false
	}
	size := n * factor
	return ByteSize(size), err == nil && size/factor == n
}

func parsePaths(text string) (Paths, bool) {
	paths := strings.Split(text, ",")
	for i := range paths {
		paths[i] = strings.TrimSpace(paths[i])
		if _, err := filepath.Match(paths[i], ""); err != nil || !filepath.IsAbs(paths[i]) {
			return nil, false
		}
	}
	return paths, true
}

func parseSpoolSync(text string) (SpoolSync, bool) {
	switch strings.ToLower(text) {
	case "never":
		return SyncNever, true
	case "always":
		return SyncAlways, true
	}
	d, ok := parseDuration(text)
	return SpoolSync(d), ok && d >= 10*time.Millisecond && d <= time.Hour
}

func parsePath(text string) (string, bool) {
	return text, text != "" && !strings.ContainsRune(text, 0)
}

func parseHostname(text string) (string, bool) {
	return text, text != "" && len(text) <= 253 && isHostname(text)
}

// parseListen accepts an empty host, which is every address, and port 0, which is any free one.
func parseListen(text string) (string, bool) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", false
	}
	_, errAddr := netip.ParseAddr(host)
	_, errPort := strconv.ParseUint(port, 10, 16)
	return text, errPort == nil && (errAddr == nil || isHostname(host))
}

// isHostname reports whether text has only characters of host names; the underscore is in use though RFC 1123 has none.
func isHostname(text string) bool {
	const characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
	return strings.Trim(text, characters) == "" && !strings.HasPrefix(text, "-")
}

// given is a value and the setting it is for, as the user named it: by its flag or by its variable.
type given struct{ setting, text string }

// String is for messages: the value quoted, of bearable length, and without what may be a secret in a URL (user, password,
// query), however badly the URL is written.
func (g given) String() string {
	const most = 64 // characters
	text := g.text
	if strings.Contains(text, ":") {
		if at := strings.LastIndexByte(text, '@'); at >= 0 {
			text = "***" + text[at:]
		}
		if before, _, ok := strings.Cut(text, "?"); ok {
			text = before + "?***"
		}
	}
	quoted := fmt.Sprintf("%s=%.*q", g.setting, most, text)
	if utf8.RuneCountInString(text) > most {
		quoted += "…"
	}
	return quoted
}

// badValue is the error of a setting that was not given what it may have.
type badValue struct{ found, why string }

// Error returns one line.
func (e *badValue) Error() string { return e.found + ": " + e.why }

package main

import (
	"io"
	"os"
	"strings"
	"unicode"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"weir/internal/config"
)

// newLogger writes console lines for people and JSON for machines. An entry is one line in both.
func newLogger(w io.Writer, level zapcore.Level, format config.LogFormat) *zap.Logger {
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	encoding.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(encoding)
	if format == config.LogConsole || format == config.LogAuto && isTerminal(w) {
		encoder, w = zapcore.NewConsoleEncoder(encoding), lineWriter{w}
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), level))
}

// lineWriter makes one printable line of what each Write brings. zap's console encoder prints messages as they are, and
// of fields it escapes only what JSON must: a name from outside could still steer a terminal.
type lineWriter struct{ io.Writer }

func (l lineWriter) Write(p []byte) (int, error) {
	if _, err := io.WriteString(l.Writer, oneLine(strings.TrimSuffix(string(p), "\n"))+"\n"); err != nil {
		return 0, err
	}
	return len(p), nil
}

// oneLine replaces what does not print. The errors of errors.Join have a line each.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) || r == '\t' {
			return r
		}
		return unicode.ReplacementChar
	}, strings.ReplaceAll(text, "\n", "; "))
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"weir/internal/config"
	"weir/internal/testnet"
)

// TestFormats logs to what is no terminal.
func TestFormats(t *testing.T) {
	for format, isJSON := range map[config.LogFormat]bool{
		config.LogAuto: true, config.LogJSON: true, config.LogConsole: false,
	} {
		var out bytes.Buffer
		log := newLogger(&out, zap.InfoLevel, format)
		log.Debug("too much")
		log.Info("attached", zap.String("interface", "eth0"))
		if n := strings.Count(out.String(), "\n"); n != 1 {
			t.Errorf("%s: %d lines, want 1: %q", format, n, &out)
		}
		if !isJSON {
			at, rest, _ := strings.Cut(out.String(), "\t")
			if _, err := time.Parse(time.RFC3339Nano, at); err != nil || rest != "info\tattached\t{\"interface\": \"eth0\"}\n" {
				t.Errorf("%s: printed %q, %v", format, &out, err)
			}
			continue
		}
		var entry struct {
			Level, Msg, Interface string
			TS                    time.Time
		}
		if err := json.Unmarshal(out.Bytes(), &entry); err != nil {
			t.Fatalf("%s: %q: %v", format, &out, err)
		}
		if entry.Level != "info" || entry.Msg != "attached" || entry.Interface != "eth0" || time.Since(entry.TS) > time.Minute {
			t.Errorf("%s: %+v", format, entry)
		}
	}
}

// TestEntryIsOneLine has text from outside in every place of an entry.
func TestEntryIsOneLine(t *testing.T) {
	const evil = "eth0\"\n2026-01-01T00:00:00Z\terror\r\x1b[2J\u009b1m\u202e\x00\xff\\"
	for _, format := range []config.LogFormat{config.LogJSON, config.LogConsole} {
		var out bytes.Buffer
		newLogger(&out, zap.InfoLevel, format).Warn(evil,
			zap.String("text", evil),
			zap.Strings("texts", []string{evil}),
			zap.Any(evil, map[string]string{evil: evil}),
			zap.Error(errors.Join(errors.New(evil), errors.New(evil))))
		line, ended := strings.CutSuffix(out.String(), "\n")
		if !ended || strings.ContainsAny(line, "\n\r\x1b\x00") {
			t.Errorf("%s: not one line: %q", format, &out)
		}
		if format == config.LogConsole && strings.ContainsAny(line, "\u009b\u202e") {
			t.Errorf("%s: not printable: %q", format, &out)
		}
		if format == config.LogJSON && !json.Valid([]byte(line)) {
			t.Errorf("%s: not JSON: %q", format, &out)
		}
	}
}

// terminal opens a pseudo-terminal and what shows on its screen.
func terminal(t *testing.T) (tty, screen *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		testnet.Unavailable(t, err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		testnet.Unavailable(t, err)
	}
	t.Cleanup(func() { tty.Close() })
	return tty, screen
}

func TestTerminal(t *testing.T) {
	for format, want := range map[config.LogFormat]string{
		config.LogAuto:    "\tinfo\tattached\r\n",
		config.LogConsole: "\tinfo\tattached\r\n",
		config.LogJSON:    `"msg":"attached"}` + "\r\n",
	} {
		tty, screen := terminal(t)
		newLogger(tty, zap.InfoLevel, format).Info("attached")
		line, err := bufio.NewReader(screen).ReadString('\n')
		if err != nil || !strings.HasSuffix(line, want) {
			t.Errorf("%s: printed %q, %v; want it to end in %q", format, line, err, want)
		}
	}
}

func TestNoTerminal(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, w := range []io.Writer{null, io.Discard, &bytes.Buffer{}} {
		if isTerminal(w) {
			t.Errorf("%T is a terminal", w)
		}
	}
}

package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"weir/internal/testnet"
)

// BenchmarkSoftflowd prints, where softflowd is installed, what it does with a million packets a second of 65,536 flows: its
// processor time for each packet that was sent, and how many of them it lost.
func BenchmarkSoftflowd(b *testing.B) {
	const flows, rate, lasts = 1 << 16, 1_000_000, 5 * time.Second
	path, err := exec.LookPath("softflowd")
	if err != nil {
		b.Skip("softflowd is not installed")
	}
	for range b.N {
		c := newCourse(b, "in")
		socket := filepath.Join(b.TempDir(), "control")
		cmd := exec.Command(path, "-d", "-i", "in", "-c", socket, "-p", filepath.Join(b.TempDir(), "pid"), "-m", strconv.Itoa(2*flows))
		s := launchBy(b, c.far, cmd)
		testnet.Eventually(b, "softflowd answers", func() bool { return statistics(socket) != nil })
		g := testnet.NewGenerator(b, c.out, testnet.Flows{Number: flows, Shuffled: true})
		before := s.processorTime(b)
		sendAt(b, g, rate, after(lasts))
		sent, _ := g.Sent()
		var processed uint64
		testnet.Eventually(b, "softflowd has seen what it will", func() bool {
			last := processed
			processed = packetsProcessed(b, statistics(socket))
			return processed > 0 && processed == last
		})
		b.ReportMetric(float64((s.processorTime(b)-before).Nanoseconds())/float64(sent), "ns/packet")
		b.ReportMetric(100*(1-float64(processed)/float64(sent)), "%-lost")
		b.ReportMetric(0, "ns/op")
	}
}

// statistics returns what softflowd says of itself, nil if it does not answer.
func statistics(socket string) []byte {
	text, err := exec.Command("softflowctl", "-c", socket, "statistics").Output()
	if err != nil {
		return nil
	}
	return text
}

var processedLine = regexp.MustCompile(`(?m)^Packets processed: (\d+)$`)

func packetsProcessed(b *testing.B, text []byte) (n uint64) {
	b.Helper()
	match := processedLine.FindSubmatch(text)
	if match == nil {
		b.Fatalf("softflowd does not say what it processed: %q", text)
	}
	if _, err := fmt.Sscan(string(match[1]), &n); err != nil {
		b.Fatal(err)
	}
	return n
}

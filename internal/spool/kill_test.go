package spool_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap"

	"weir/internal/spool"
)

// childDir is the environment variable that makes a process of this test binary a child that appends.
const childDir = "WEIR_TEST_SPOOL_DIR"

// child appends records and acknowledges most of them, and says so, until it is killed.
func child(dir string) {
	s, err := spool.Open(spool.Config{Dir: dir, MaxBytes: 16 << 20, SegmentBytes: 64 << 10, Sync: spool.Never, Log: zap.NewNop()})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for {
		seq, _, err := s.Append(childRecord(s), 1)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(seq)
		if seq%16 != 0 {
			fmt.Println(-int64(seq)) // before: from now on it may be gone
			s.Ack(seq)
		}
	}
}

func childRecord(s *spool.Spool) []byte {
	n := s.Stats().Pending.Records
	return []byte(strings.Repeat(strconv.FormatInt(n%10, 10), 2000))
}

// TestF12Kill kills a process that appends, again and again, at random moments. Whatever it said to have appended, and
// not to acknowledge, is there.
func TestF12Kill(t *testing.T) {
	dir := t.TempDir()
	waiting := map[spool.Seq]bool{}
	for range 6 {
		killOne(t, dir, 1+rand.IntN(1000), waiting)
	}
	s := onDisk(t, dir, 16<<20, spool.Never)
	got := drain(t, s)
	for seq := range waiting {
		if len(got[seq]) != 2000 {
			t.Errorf("record %d has %d bytes", seq, len(got[seq]))
		}
	}
	if len(waiting) == 0 {
		t.Error("the children left nothing")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// killOne kills a child after it said so many lines, and books what it said.
func killOne(t *testing.T, dir string, lines int, waiting map[spool.Seq]bool) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewScanner(out)
	for n := 1; said.Scan(); n++ {
		seq, err := strconv.ParseInt(said.Text(), 10, 64)
		switch {
		case err != nil && n <= lines: // what comes later may be cut
			t.Fatalf("the child says %q", said.Text())
		case seq < 0:
			delete(waiting, spool.Seq(-seq))
		case seq > 0:
			if waiting[spool.Seq(seq)] {
				t.Fatalf("record %d was there before", seq)
			}
			waiting[spool.Seq(seq)] = true
		}
		if n == lines {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
}

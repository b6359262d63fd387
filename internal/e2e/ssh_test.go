package e2e

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"weir/internal/testbrain"
	"weir/internal/testnet"
)

// The server's ports, one for each kind of session.
const (
	portInteractive = "2201"
	portDownload    = "2202"
	portReverse     = "2203"
	portUpload      = "61022" // above those that clients have

	portForwarded = "2300" // that the reverse session has the server listen on
)

// sshd is OpenSSH's server in the server's namespace.
type sshd struct {
	pair
	clientKey string // path
}

// startSSHD runs a server with a host key and a configuration of its own until the test ends.
func (p pair) startSSHD(t *testing.T) sshd {
	t.Helper()
	dir := t.TempDir()
	hostKey, clientKey, config := filepath.Join(dir, "host"), filepath.Join(dir, "client"), filepath.Join(dir, "config")
	for _, key := range []string{hostKey, clientKey} {
		run(t, p.server, "", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	}
	lines := []string{
		"HostKey " + hostKey, "AuthorizedKeysFile " + clientKey + ".pub", "StrictModes no", "UsePAM no", "PermitRootLogin yes",
		"PasswordAuthentication no", "UseDNS no", "PidFile none", "PrintMotd no", "PrintLastLog no", "Subsystem sftp internal-sftp",
	}
	for port := range sessions {
		lines = append(lines, "ListenAddress 10.9.0.2:"+port)
	}
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd asks for it, and only its service makes it
		t.Fatal(err)
	}
	printed := background(t, p.server, exec.Command(tool(t, "sshd"), "-D", "-e", "-f", config))
	testnet.Eventually(t, "sshd listens", func() bool {
		return strings.Count(printed.String(), "Server listening on") == len(sessions)
	})
	return sshd{p, clientKey}
}

// options are those of ssh and of scp, but for the port. Keystrokes are sent as they are made, by a cipher that is everywhere.
func (s sshd) options() []string {
	list := []string{"-F", "none", "-i", s.clientKey, "-c", "chacha20-poly1305@openssh.com"}
	for _, option := range []string{
		"IgnoreUnknown=ObscureKeystrokeTiming", "ObscureKeystrokeTiming=no", "UserKnownHostsFile=/dev/null",
		"StrictHostKeyChecking=no", "LogLevel=ERROR", "BatchMode=yes", "ExitOnForwardFailure=yes",
	} {
		list = append(list, "-o", option)
	}
	return list
}

// typeKeys types in a terminal session, each key when the one before has shown.
func (s sshd) typeKeys(t *testing.T, port string, keys int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, "ssh"), append(s.options(), "-p", port, "-tt", "root@10.9.0.2", "cat")...)
	in, shown := s.start(t, cmd)
	for range keys {
		echoed(t, in, shown, []byte("x"))
	}
	if _, err := io.WriteString(in, "\n\x04"); err != nil { // the end of cat's input
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
}

// start starts a program in the client's namespace.
func (s sshd) start(t *testing.T, cmd *exec.Cmd) (in io.WriteCloser, out io.Reader) {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if out, err = cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = t.Output()
	if err := s.client.Do(cmd.Start); err != nil {
		t.Fatalf("start %s: %v", cmd, err)
	}
	return in, out
}

// echoed writes something and waits until it comes back.
func echoed(t *testing.T, in io.Writer, out io.Reader, text []byte) {
	t.Helper()
	back := make([]byte, len(text))
	if _, err := in.Write(text); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, back); err != nil || !bytes.Equal(back, text) {
		t.Fatalf("wrote %q, and %q came back: %v", text, back, err)
	}
}

// copyFile has scp copy a file of 2 MiB, up or down.
func (s sshd) copyFile(t *testing.T, port string, up bool) {
	t.Helper()
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	if err := os.WriteFile(from, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	paths := []string{"root@10.9.0.2:" + from, to}
	if up {
		paths = []string{from, "root@10.9.0.2:" + to}
	}
	run(t, s.client, "", "scp", slices.Concat(s.options(), []string{"-q", "-P", port}, paths)...)
}

// typeBack has the client make the server forward connections to it, over one of which the server then sends what a terminal
// session sends for each key.
func (s sshd) typeBack(t *testing.T, port string, keys int) {
	t.Helper()
	const keystroke = 36 // bytes, with the cipher of options
	echo := s.echoOnClient(t)
	cmd := exec.CommandContext(t.Context(), tool(t, "ssh"), append(s.options(), "-p", port,
		"-R", "127.0.0.1:"+portForwarded+":"+echo, "root@10.9.0.2", "echo ready; read line")...)
	in, out := s.start(t, cmd)
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	err := s.server.Do(func() error {
		conn, err := net.Dial("tcp", "127.0.0.1:"+portForwarded)
		if err != nil {
			return err
		}
		defer conn.Close()
		for range keys {
			echoed(t, conn, conn, make([]byte, keystroke))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "\n"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
}

// echoOnClient listens in the client's namespace, and sends back what comes.
func (s sshd) echoOnClient(t *testing.T) (addr string) {
	t.Helper()
	there := pair{server: s.client}
	return there.listen(t, "127.0.0.1:0", func(conn *net.TCPConn) {
		defer conn.Close()
		_, _ = io.Copy(conn, conn)
	})
}

// acknowledgeAtOnce makes the end of a link acknowledge each packet as it comes. By itself it waits for something to go back with
// the acknowledgement.
func acknowledgeAtOnce(t *testing.T, link *testnet.Link, peer string) {
	t.Helper()
	err := link.Namespace.Netlink.RouteAdd(&netlink.Route{
		LinkIndex: link.Index, Scope: netlink.SCOPE_LINK, QuickACK: 1,
		Dst: &net.IPNet{IP: net.ParseIP(peer), Mask: net.CIDRMask(32, 32)},
	})
	if err != nil {
		t.Fatalf("add a route to %s: %v", peer, err)
	}
}

// sessions are what is to be said of a connection to each port: in its last window the bytes of most packets either way, and what
// that comes to.
var sessions = map[string]struct {
	modes *regexp.Regexp
	kind  string
}{
	portInteractive: {regexp.MustCompile(`^c36s36_`), "Interactive SSH Session"},
	portDownload:    {regexp.MustCompile(`^c\d+s1448_`), "SSH File Transfer"}, // what an Ethernet frame holds
	portUpload:      {regexp.MustCompile(`^c1448s\d+_`), "SSH File Transfer (Upload)"},
	portReverse:     {regexp.MustCompile(`^c76s76_`), "Reverse SSH Session"},
}

// TestSSH has a session of each kind, beside either end, with offloads on: what is told of are the packets on the wire.
func TestSSH(t *testing.T) {
	const keys = 200 // for two windows of 200 packets
	p := newPair(t)
	acknowledgeAtOnce(t, p.clientLink, "10.9.0.2")
	acknowledgeAtOnce(t, p.serverLink, "10.9.0.1")
	s := p.startSSHD(t)
	var brains []*testbrain.Brain
	var agents []*agent
	for _, link := range []*testnet.Link{p.clientLink, p.serverLink} {
		brain := brainIn(t, link.Namespace, testbrain.Options{})
		brains = append(brains, brain)
		agents = append(agents, launch(t, link.Namespace, "AGENT_INTERFACE="+link.Name, "AGENT_INGRESS_HOOK=tc",
			"AGENT_FINGERPRINTS=ja4ssh", "AGENT_ENDPOINT_URL="+brain.URL()))
	}
	for _, a := range agents {
		a.ready(t)
	}
	s.typeKeys(t, portInteractive, keys)
	s.copyFile(t, portDownload, false)
	s.copyFile(t, portUpload, true)
	s.typeBack(t, portReverse, keys)
	for i, a := range agents {
		a.terminate(t)
		checkSessions(t, brains[i].Events())
	}
}

// window is a fingerprint of JA4SSH: modes, packets with payload, and those that only acknowledge, of the client and the server.
var window = regexp.MustCompile(`^c\d+s\d+_c(\d+)s(\d+)_c\d+s\d+$`)

func checkSessions(t *testing.T, events []testbrain.Event) {
	t.Helper()
	flows := map[string]bool{}
	for _, e := range events {
		want, ok := sessions[e.DstPort]
		if !ok {
			want = sessions[e.SrcPort]
		}
		if e.SSHSession != want.kind || len(e.JA4SSH) < 2 || !want.modes.MatchString(e.JA4SSH[len(e.JA4SSH)-1]) {
			t.Errorf("flow %s: %q %q, want %q and, of two windows or more, the last as %s",
				e.FlowID, e.SSHSession, e.JA4SSH, want.kind, want.modes)
		}
		for _, value := range e.JA4SSH {
			counts := window.FindStringSubmatch(value)
			if counts == nil || number(counts[1])+number(counts[2]) != 200 {
				t.Errorf("flow %s: %s is not of 200 packets", e.FlowID, value)
			}
		}
		flows[e.FlowID] = true
	}
	if len(flows) != 2*len(sessions) {
		t.Errorf("events of %d flows, want %d", len(flows), 2*len(sessions))
	}
}

func number(text string) int {
	n, _ := strconv.Atoi(text) // of digits only
	return n
}

package ja4plus

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"weir/internal/fingerprint"
	"weir/internal/flow"
)

// SSHWindow is how many packets with payload, of both directions, one JA4SSH is made of.
const SSHWindow = 200

// JA4SSH returns the fingerprint of a window of an SSH connection, whose client is Key.Ends[client]: the commonest length of
// payload, the packets with payload and those that only acknowledge, of client and server, as in c36s36_c51s80_c69s0. Of
// lengths that are equally common the smaller is taken; it is 0 of who sent none. A window that is not full has none.
func JA4SSH(l flow.Lengths, client int) fingerprint.Fingerprint {
	server := 1 - client
	from, to := l.Payloads[client], l.Payloads[server]
	if len(from)+len(to) < SSHWindow {
		return fingerprint.Fingerprint{}
	}
	return fingerprint.Fingerprint{Method: "ja4ssh", Value: fmt.Sprintf("c%ds%d_c%ds%d_c%ds%d",
		commonest(from), commonest(to), len(from), len(to), l.Acks[client], l.Acks[server])}
}

func commonest(lengths []uint16) uint16 {
	sorted := slices.Sorted(slices.Values(lengths))
	var best uint16
	for most, start := 0, 0; start < len(sorted); {
		end := start + 1
		for end < len(sorted) && sorted[end] == sorted[start] {
			end++
		}
		if end-start > most {
			best, most = sorted[start], end-start
		}
		start = end
	}
	return best
}

var ja4ssh = regexp.MustCompile(`^c(\d{1,9})s(\d{1,9})_c(\d{1,9})s(\d{1,9})_c(\d{1,9})s(\d{1,9})$`)

// InterpretJA4SSH says what kind of session a JA4SSH shows: "Interactive SSH Session", "Reverse SSH Session", "SSH File
// Transfer", "SSH File Transfer (Upload)" or "Unknown". It is empty of what is not a JA4SSH.
func InterpretJA4SSH(value string) string {
	parts := ja4ssh.FindStringSubmatch(value)
	if parts == nil {
		return ""
	}
	var n [6]int
	for i := range n {
		n[i], _ = strconv.Atoi(parts[i+1]) // up to nine digits
	}
	clientLength, serverLength, clientPackets, serverPackets, clientAcks, serverAcks := n[0], n[1], n[2], n[3], n[4], n[5]
	switch {
	// A key pressed is the smallest packet that a cipher allows, and its echo is as long.
	case clientLength == 36 && serverLength == 36 && clientAcks > 60:
		return "Interactive SSH Session"
	// A session in a session has a cipher around each, and it is the server that acknowledges what is typed.
	case clientLength > 70 && serverLength > 70 && serverAcks > 60:
		return "Reverse SSH Session"
	case serverLength > 1000 && clientPackets < 20 && serverPackets > 80:
		return "SSH File Transfer"
	case clientLength > 1000 && clientPackets > 80 && serverPackets < 20:
		return "SSH File Transfer (Upload)"
	}
	return "Unknown"
}

// Package ja4plus computes the JA4+ fingerprints other than JA4 itself: of servers, HTTP requests, certificates, TCP, latency,
// SSH sessions and DHCP. It is code of our own, but the methods are not ours: they are FoxIO's, which says that patents on
// them are pending, and which licenses them under the FoxIO License 1.1. That licence allows use for purposes that are not
// commercial, and use inside an organisation that earns nothing by it; who sells with them, or offers them as a service,
// needs a licence of FoxIO's own. JA4+ is a trademark of FoxIO. Its terms bind whoever turns a method on, so none of them
// runs unless a setting names it:
//
//	https://github.com/FoxIO-LLC/ja4/blob/main/LICENSE
//	https://github.com/FoxIO-LLC/ja4/blob/main/License%20FAQ.md
//
// Everything here is pure: from plain values to a fingerprint, or to one without a value where there is nothing to tell.
// What is damaged or cut short has no fingerprint, and costs no more than reading it once.
//
// Where FoxIO's own implementations disagree, the Rust one is followed, and Wireshark's for TCP and DHCP.
package ja4plus

import "strconv"

// appendNumber appends a number to a list as the methods write one, with hyphens between.
func appendNumber(list []byte, number uint64) []byte {
	if len(list) > 0 {
		list = append(list, '-')
	}
	return strconv.AppendUint(list, number, 10)
}

// orNone returns a list, or what stands for one that is empty.
func orNone(list []byte) []byte {
	if len(list) == 0 {
		return []byte("00")
	}
	return list
}

// flag returns the letter for what is there, or n.
func flag(set bool, letter byte) byte {
	if set {
		return letter
	}
	return 'n'
}

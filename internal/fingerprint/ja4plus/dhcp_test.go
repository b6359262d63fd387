package ja4plus

import (
	"encoding/binary"
	"strings"
	"testing"

	"weir/internal/fingerprint"
)

// message4 is a DHCPv4 message of some options.
func message4(options ...string) []byte {
	return []byte("\x01\x01\x06\x00" + strings.Repeat("\x00", 232) + "\x63\x82\x53\x63" + strings.Join(options, ""))
}

// overload is a message of options in the fields for the name of a server and of a file too.
func overload(which byte, name, file string) []byte {
	message := message4("\x35\x01\x01", "\x34\x01", string(which), "\x0c\x01a", "\xff")
	copy(message[44:], name)
	copy(message[108:], file)
	return message
}

func TestJA4D(t *testing.T) {
	const (
		discover = "\x35\x01\x01"
		request  = "\x35\x01\x03"
		address  = "\x32\x04\xc0\x00\x02\x01"
		end      = "\xff"
	)
	for name, test := range map[string]struct {
		message []byte
		want    string
	}{
		"discover": {
			message4(discover, "\x3d\x07\x01\x00\x00\x5e\x00\x53\x01", address, "\x37\x04\x01\x03\x06\x2a", end, "\x00\x00"),
			"disco0000in_61-55_1-3-6-42",
		},
		"acknowledgement": {message4("\x35\x01\x05", "\x3a\x02\x07\x08", "\x01\x01\x00", end), "dpack0000nn_58-1_00"},
		"request": {
			message4(request, "\x37\x02\x01\x79", "\x39\x02\x05\xdc", "\x3d\x01\x01", address, "\x33\x01\x01", "\x0c\x01a", end),
			"reqst1500in_55-57-61-51-12_1-121",
		},
		"domain name":          {message4(discover, "\x51\x05\x00\x00\x00hi", end), "disco0000nd_00_00"},
		"no domain name in it": {message4(discover, "\x51\x03\x00\x00\x00", end), "disco0000nn_00_00"},
		"a large size":         {message4(discover, "\x39\x02\xff\xff", end), "disco9999nn_57_00"},
		"padding between":      {message4("\x00", discover, "\x00\x00", "\x0c\x01a", end, "\x0c\x01a"), "disco0000nn_12_00"},
		"many options":         {message4(discover, strings.Repeat("\xfe\x00", 124), end), "disco0000nn_254" + strings.Repeat("-254", 123) + "_00"},
		"too many options":     {message4(discover, strings.Repeat("\xfe\x00", 125), end), ""},
		"no end":               {message4(discover, "\x0c\x01a"), "disco0000nn_12_00"},
		"no type":              {message4("\x0c\x01a", end), "00000" + "0000nn_12_00"},
		"an unknown type":      {message4("\x35\x01\x63", end), "00099" + "0000nn_00_00"},
		"the last known type":  {message4("\x35\x01\x12", end), "dhtls0000nn_00_00"},
		"cut short":            {message4(discover, "\x0c\x02a"), ""},
		"cut in a header":      {message4(discover, "\x0c"), ""},
		"BOOTP":                {message4()[:236], ""},
		"options in the name":  {overload(2, "\x0f\x01x\xff", ""), "disco0000nn_52-15-12_00"},
		"in the file":          {overload(1, "\x0f\x01x\xff", "\x11\x01y\xff"), "disco0000nn_52-17-12_00"},
		"in both":              {overload(3, "\x0f\x01x\xff", "\x34\x01\x03\x11\x01y"), "disco0000nn_52-15-52-17-12_00"},
		"in a file twice":      {message4("\x34\x01\x01", "\x34\x01\x01", "\xff"), "00000" + "0000nn_52-52_00"},
		"cut in the name":      {overload(2, "\x0f\x40x", ""), ""},
		"another cookie":       {append(message4()[:236], "\x00\x00\x00\x00\xff"...), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := JA4D(test.message).Value; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// option6 is one of DHCPv6.
func option6(code uint16, parts ...string) string {
	contents := strings.Join(parts, "")
	header := binary.BigEndian.AppendUint16(nil, code)
	return string(binary.BigEndian.AppendUint16(header, uint16(len(contents)))) + contents
}

// message6 is a DHCPv6 message of some options.
func message6(kind byte, options ...string) string {
	return string([]byte{kind, 1, 2, 3}) + strings.Join(options, "")
}

// relayed is a message behind some relays.
func relayed(times int, message string) string {
	for range times {
		message = "\x0c" + strings.Repeat("\x00", 33) + option6(dhcp6RelayMessage, message)
	}
	return message
}

func TestJA4D6(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("\x00", n) }
	client, server := option6(1, zeros(14)), option6(2, zeros(10))
	requested := option6(6, "\x00\x17\x00\x18")
	prefixes := option6(25, zeros(12), option6(26, zeros(25)))
	address := option6(3, zeros(12), option6(5, zeros(24), option6(13)))
	for name, test := range map[string]struct{ message, want string }{
		"solicit":   {message6(1, client, requested, option6(8), option6(25, zeros(12))), "solct0014nn_1-6-8-25_23-24"},
		"advertise": {message6(2, prefixes, client, server), "advrt0014nn_25-26-1-2_00"},
		"a status in an address in an association": {
			message6(7, address, client), "reply0014nn_3-5-13-1_00",
		},
		"for a while":            {message6(1, option6(4, zeros(4))), "solct0000in_4_00"},
		"domain name":            {message6(1, option6(39, "\x00\x04host")), "solct0000nd_39_00"},
		"no domain name in it":   {message6(1, option6(39, "\x00")), "solct0000nn_39_00"},
		"a whole domain name":    {message6(1, option6(39, "\x00\x04host\x07example\x00")), "solct0000nd_39_00"},
		"a top-level domain":     {message6(1, option6(39, "\x00\x04host\x00")), "solct0000nn_39_00"},
		"where no name belongs":  {message6(8, option6(39, "\x00\x04host")), "relse0000nn_39_00"},
		"named behind a relay":   {relayed(1, message6(1, option6(39, "\x00\x04host"))), "rlayf0000nd_9-39_00"},
		"the root":               {message6(1, option6(39, "\x00\x00")), "solct0000nn_39_00"},
		"a name as plain text":   {message6(1, option6(39, "\x00DESKTOP-1")), "solct0000nn_39_00"},
		"a query":                {message6(14, option6(44, zeros(17), address)), "query0000nn_44-3-5-13_00"},
		"its answer":             {message6(15, option6(45, client, option6(5, zeros(24)))), "qrply0014nn_45-1-5_00"},
		"mapping":                {message6(7, option6(94, option6(89), option6(90)), option6(96, option6(90))), "reply0000nn_94-89-90-96-90_00"},
		"the first identifier":   {message6(1, client, option6(1, zeros(20))), "solct0014nn_1-1_00"},
		"an unknown type":        {message6(99), "000990000nn_00_00"},
		"type 0":                 {message6(0), "000000000nn_00_00"},
		"the last known type":    {message6(37), "arrep0000nn_00_00"},
		"relayed":                {relayed(1, message6(1, client, requested)) + option6(18), "rlayf0014nn_9-1-6-18_23-24"},
		"relayed often":          {relayed(8, message6(1, address)), "rlayf0000nn_9-9-9-9-9-9-9-9-3-5-13_00"},
		"relayed too often":      {relayed(13, message6(1, client)), ""},
		"half a code asked for":  {message6(1, option6(6, "\x00\x17\x00")), "solct0000nn_6_23"},
		"cut short":              {message6(1, client)[:21], ""},
		"cut in a header":        {message6(1, client) + "\x00\x01\x00", ""},
		"cut within":             {message6(1, option6(3, zeros(12), "\x00\x05\x00\x18")), ""},
		"less than an option is": {message6(1, option6(3, zeros(11))), ""},
		"a relay without room":   {"\x0c" + zeros(32), ""},
		"nothing":                {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := JA4D6([]byte(test.message)).Value; got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func FuzzDHCP(f *testing.F) {
	f.Add(message4("\x35\x01\x01\x37\x02\x01\x03\x51\x04\x00\x00\x00a\xff"))
	f.Add([]byte(relayed(3, message6(1, option6(4, "\x00\x00\x00\x00", option6(13)), option6(6, "\x00\x17")))))
	f.Fuzz(func(t *testing.T, message []byte) {
		costsNoMore(t, message, func(message []byte) fingerprint.Fingerprint { return JA4D(message) })
		costsNoMore(t, message, JA4D6)
	})
}

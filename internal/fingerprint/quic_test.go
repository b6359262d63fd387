package fingerprint

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
)

const (
	version1 = 1
	version2 = 0x6b3343cf
)

// What the appendices A of RFC 9001 and RFC 9369 send: the same frames in both versions.
const (
	rfcOrigin       = "8394c8f03e515708"
	rfcSource       = "f067a5502a4262b5"
	rfcClientFrames = `060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868
		04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d00170018
		00100007000504616c706e000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994
		ec74d748002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05
		048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff`
	rfcServerFrames = `02000000000600405a020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a045a1200130100
		002e00330024001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32bb9da1a002b00020304`
)

type rfcVector struct {
	name       string
	version    uint32
	iv         [2]string // of client and server
	clientHead string    // of the protected packet
	clientTail string
	server     string
}

var rfcVectors = []rfcVector{
	{
		name: "RFC 9001", version: version1, iv: [2]string{"fa044b2f42a3fd3b46fb255c", "0ac1493ca1905853b0bba03e"},
		clientHead: "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11",
		clientTail: "7e78bfe706ca4cf5e9c5453e9f7cfd2b8b4c8d169a44e55c88d4a9a7f9474241e221af44860018ab0856972e194cd934",
		server: `cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38cc5a99f5e
			de4cf73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb
			7aaf2f58891850abbdca3d20398c276456cbc42158407dd074ee`,
	},
	{
		name: "RFC 9369", version: version2, iv: [2]string{"91f73e2351d8fa91660e909f", "dd13c276499c0249d3310652"},
		clientHead: "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485",
		clientTail: "6f4c4938ae79324dc402894b44faf8afbab35282ab659d13c93f70412e85cb199a37ddec600545473cfb5a05e08d0b209973b217" +
			"2b4d21fb69745a262ccde96ba18b2faa745b6fe189cf772a9f84cbfc",
		server: `dc6b3343cf0008f067a5502a4262b5004075d92faaf16f05d8a4398c47089698baeea26b91eb761d9b89237bbf8726301791535823
			0035f7fd3945d88965cf17f9af6e16886c61bfc703106fbaf3cb4cfa52382dd16a393e42757507698075b2c984c707f0a0812d8cd5a6881e
			af21ceda98f4bd23f6fe1a3e2c43edd9ce7ca84bed8521e2e140`,
	},
}

// client is the client's packet: protected here, and held against what the RFC shows of it, the authentication tag included.
func (v rfcVector) client(t testing.TB) []byte {
	t.Helper()
	packet := sealed{
		version: v.version, origin: unhex(t, rfcOrigin), destination: unhex(t, rfcOrigin), number: 2, numberBytes: 4,
		frames: unhex(t, rfcClientFrames), paddedFrames: 1162,
	}.packet(t)
	if head, tail := unhex(t, v.clientHead), unhex(t, v.clientTail); !bytes.HasPrefix(packet, head) || !bytes.HasSuffix(packet, tail) {
		t.Fatalf("the client's packet is %x, want %x…%x", packet, head, tail)
	}
	return packet
}

func TestInitialKeysOfTheRFCs(t *testing.T) {
	for _, v := range rfcVectors {
		for side, want := range v.iv {
			keys, err := newInitialKeys(versionOf(v.version), unhex(t, rfcOrigin), Side(side))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(keys.iv[:], unhex(t, want)) {
				t.Errorf("%s, side %d: initialisation vector %x, want %s", v.name, side, keys.iv, want)
			}
		}
	}
}

func TestInitialPacketsOfTheRFCs(t *testing.T) {
	for _, v := range rfcVectors {
		t.Run(v.name, func(t *testing.T) {
			var q Initials
			if err := q.Add(Client, v.client(t)); err != nil {
				t.Fatal(err)
			}
			if err := q.Add(Server, unhex(t, v.server)); err != nil {
				t.Fatal(err)
			}
			message, err := q.Message(Client)
			if err != nil {
				t.Fatal(err)
			}
			const raw = "q13d0211an_1301,1302_0005,000a,000d,001c,002b,002d,0033,0039,ff01_0403,0503,0603,0203,0804,0805,0806"
			if got := ja4Of(t, message.Body, QUIC); got.Raw != raw {
				t.Errorf("raw fingerprint %s, want %s", got.Raw, raw)
			}
			if message, err = q.Message(Server); err != nil {
				t.Fatal(err)
			}
			hello, err := ParseServerHello(message.Body)
			if err != nil || hello.Cipher != 0x1301 || hello.Version != VersionTLS13 {
				t.Errorf("server's hello %+v, error %v", hello, err)
			}
		})
	}
}

// bigCrypto is a CRYPTO frame of a part of a hello that takes two datagrams or more.
func bigCrypto(from, to int) []byte {
	whole := message(MessageClientHello, bigHello())
	return crypto(from, whole[from:min(to, len(whole))])
}

const bigEnd = 1 << 14

func TestHelloInManyDatagrams(t *testing.T) {
	for _, version := range []uint32{version1, version2} {
		one := func(number uint32, frames ...[]byte) []byte {
			return initial(t, version, "origin00", number, frames...)
		}
		ack := []byte{frameACK, 0, 0, 1, 0, 0, 0}
		for name, datagrams := range map[string][][]byte{
			"two":       {one(1, bigCrypto(0, 1000)), one(2, bigCrypto(1000, bigEnd))},
			"three":     {one(1, bigCrypto(0, 500)), one(2, bigCrypto(500, 900)), one(3, bigCrypto(900, bigEnd))},
			"reordered": {one(3, bigCrypto(900, bigEnd)), one(2, bigCrypto(500, 900)), one(1, bigCrypto(0, 500))},
			"repeated":  {one(1, bigCrypto(0, 1000)), one(2, bigCrypto(0, 1000)), one(3, bigCrypto(1000, bigEnd))},
			"frames out of order": {
				one(1, bigCrypto(1500, 1600), []byte{framePing}, bigCrypto(0, 700)),
				one(2, bigCrypto(1600, bigEnd), ack, bigCrypto(700, 1500)),
			},
		} {
			t.Run(fmt.Sprintf("version %x, %s", version, name), func(t *testing.T) {
				var q Initials
				for i, datagram := range datagrams {
					if _, err := q.Message(Client); !errors.Is(err, ErrIncomplete) {
						t.Fatalf("before datagram %d: error %v, want that it is incomplete", i, err)
					}
					if err := q.Add(Client, datagram); err != nil {
						t.Fatal(err)
					}
				}
				wantBigHello(t, &q)
			})
		}
	}
}

func wantBigHello(t *testing.T, q *Initials) {
	t.Helper()
	message, err := q.Message(Client)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := ja4Of(t, message.Body, QUIC).Raw, "q"+bigHelloJA4_r[1:]; got != want {
		t.Errorf("raw fingerprint %s, want %s", got, want)
	}
}

// A client that has to begin anew sends another destination, which its keys follow from; the beginning before is forgotten.
func TestHelloBegunAnew(t *testing.T) {
	retry := join([]byte{0xf0, 0, 0, 0, 1}, vector(1, []byte("source")), vector(1, []byte("retried0")), make([]byte, 40))
	negotiation := join([]byte{0xc0, 0, 0, 0, 0}, vector(1, []byte("source")), vector(1, []byte("origin00")), codes(0, 1))
	for name, test := range map[string]struct {
		version uint32
		answer  []byte
		id      string
	}{
		"retry":               {version1, retry, "retried0"},
		"retry that was lost": {version1, nil, "retried0"},
		"another version":     {version2, negotiation, "another0"},
	} {
		t.Run(name, func(t *testing.T) {
			var q Initials
			abandoned := crypto(0, message(MessageClientHello, make([]byte, 2000))[:1000])
			for _, err := range []error{
				q.Add(Client, initial(t, version1, "origin00", 0, abandoned)),
				q.Add(Server, test.answer),
				q.Add(Client, initial(t, test.version, test.id, 1, bigCrypto(0, 1000))),
				q.Add(Client, initial(t, test.version, test.id, 2, bigCrypto(1000, bigEnd))),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
			wantBigHello(t, &q)
		})
	}
}

// The client goes on to the server's connection ID, and may go on in another version (RFC 9368), with keys from its first destination.
func TestHelloThatGoesOn(t *testing.T) {
	var q Initials
	if err := q.Add(Client, initial(t, version1, "origin00", 0, bigCrypto(0, 1000))); err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint32{version1, version2} {
		next := sealed{
			version: version, origin: []byte("origin00"), destination: []byte("server00"), number: 300, numberBytes: 2,
			frames: bigCrypto(1000, bigEnd),
		}
		if err := q.Add(Client, next.packet(t)); err != nil {
			t.Fatalf("version %x: %v", version, err)
		}
		wantBigHello(t, &q)
	}
}

// A client that begins anew after its hello was read is read again.
func TestHelloReadAgain(t *testing.T) {
	var q Initials
	whole := crypto(0, message(MessageClientHello, chromeHello()))
	for _, id := range []string{"origin00", "retried0"} {
		if err := q.Add(Client, initial(t, version1, id, 0, whole)); err != nil {
			t.Fatal(err)
		}
		if message, err := q.Message(Client); err != nil || message.Type != MessageClientHello {
			t.Errorf("%s: message %+v, error %v", id, message, err)
		}
		q.Done(Client)
	}
}

func TestBegins(t *testing.T) {
	good := initial(t, version1, "another0", 0, bigCrypto(0, 1000))
	forged := bytes.Clone(good)
	forged[len(forged)-1]++
	goesOn := sealed{
		version: version1, origin: []byte("origin00"), destination: []byte("server00"), numberBytes: 2, paddedFrames: 1180,
	}
	known := [][]byte{[]byte("origin00"), []byte("server00")}
	for name, test := range map[string]struct {
		datagram []byte
		want     bool
	}{
		"another":            {good, true},
		"the same":           {initial(t, version1, "origin00", 0, bigCrypto(0, 1000)), false},
		"it goes on":         {goesOn.packet(t), false},
		"forged":             {forged, false},
		"cut":                {good[:600], false},
		"cut in its header":  {append(good[:9:9], bytes.Repeat([]byte{0xff}, leastDatagram)...), false},
		"of another version": {append([]byte{0xc0, 0xff, 0, 0, 29}, good[5:]...), false},
		"not QUIC":           {make([]byte, leastDatagram), false},
	} {
		if got := Begins(test.datagram, known); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestDestinations(t *testing.T) {
	var q Initials
	v := rfcVectors[0]
	for from, datagram := range [][]byte{v.client(t), unhex(t, v.server)} {
		if err := q.Add(Side(from), datagram); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprintf("%x", q.Destinations()); got != "["+rfcOrigin+" "+rfcSource+"]" {
		t.Errorf("destinations %s", got)
	}
}

func TestCoalescedPackets(t *testing.T) {
	initial := func(number uint32, frames []byte) []byte {
		return sealed{version: version1, origin: []byte("o"), destination: []byte("o"), number: number, numberBytes: 4, frames: frames}.packet(t)
	}
	zeroRTT := join([]byte{0xd0, 0, 0, 0, 1, 1, 'o', 0}, vector(1, make([]byte, 30)))
	short := make([]byte, 30)
	short[0] = 0x40
	var q Initials
	if err := q.Add(Client, join(initial(0, bigCrypto(0, 900)), zeroRTT, initial(1, bigCrypto(900, bigEnd)), short)); err != nil {
		t.Fatal(err)
	}
	wantBigHello(t, &q)
}

// What comes behind a packet for another destination in a datagram is not read (RFC 9000, section 12.2): each would need keys of its own.
func TestCoalescedPacketsOfAnotherDestination(t *testing.T) {
	to := func(destination string, frames []byte) []byte {
		return sealed{
			version: version1, origin: []byte(destination), destination: []byte(destination), numberBytes: 4, frames: frames,
		}.packet(t)
	}
	var q Initials
	if err := q.Add(Client, join(to("a", bigCrypto(0, 900)), to("b", bigCrypto(0, bigEnd)))); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Message(Client); !errors.Is(err, ErrIncomplete) || string(q.origin) != "a" {
		t.Errorf("error %v, origin %q, want that the hello for a is incomplete", err, q.origin)
	}
}

func TestFramesAreLimited(t *testing.T) {
	for count, want := range map[int]error{maxFrames: nil, maxFrames + 1: ErrMalformed} {
		var q Initials
		err := q.Add(Client, initial(t, version1, "o", 0, bytes.Repeat(crypto(7, []byte("x")), count)))
		if !errors.Is(err, want) {
			t.Errorf("%d frames: error %v, want %v", count, err, want)
		}
	}
}

func TestDatagramsThatAreNotRead(t *testing.T) {
	good := initial(t, version1, "origin00", 1, bigCrypto(0, 1000))
	forged := bytes.Clone(good)
	forged[len(forged)-1]++
	small := sealed{version: version1, origin: []byte("origin00"), destination: []byte("origin00"), numberBytes: 1, frames: bigCrypto(0, 900)}
	for name, test := range map[string]struct {
		from     Side
		datagram []byte
		want     error
	}{
		"forged":                 {Client, forged, ErrMalformed},
		"less than a client's":   {Client, small.packet(t), ErrMalformed},
		"a server before":        {Server, good, ErrIncomplete},
		"cut":                    {Client, good[:600], ErrMalformed},
		"cut in its header":      {Client, good[:9], ErrMalformed},
		"a frame of another use": {Client, initial(t, version1, "o", 1, []byte{0x08, 1, 2, 3}), ErrMalformed},
		"a frame cut":            {Client, initial(t, version1, "o", 1, crypto(0, make([]byte, 2000))[:1200]), ErrMalformed},
		"closed":                 {Client, initial(t, version1, "o", 1, []byte{frameConnectionClose, 1, 6, 0, 0xff}), nil},
		"another version":        {Client, append([]byte{0xc0, 0xff, 0, 0, 29}, good[5:]...), nil},
		"not QUIC":               {Client, []byte("hello"), nil},
		"empty":                  {Client, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var q Initials
			if err := q.Add(test.from, test.datagram); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
			if message, err := q.Message(test.from); !errors.Is(err, ErrIncomplete) {
				t.Errorf("message %v, error %v, want that it is incomplete", message, err)
			}
		})
	}
}

func TestDatagramsAreLimited(t *testing.T) {
	var q Initials
	for number := range uint32(maxDatagrams) {
		if q.Spent(Client) {
			t.Fatalf("spent after %d datagrams", number)
		}
		if err := q.Add(Client, initial(t, version1, "o", number, bigCrypto(int(number)*100, int(number)*100+100))); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Add(Client, initial(t, version1, "o", 9, bigCrypto(400, bigEnd))); err != nil || !q.Spent(Client) {
		t.Fatalf("error %v after the last datagram, spent: %v", err, q.Spent(Client))
	}
	if _, err := q.Message(Client); !errors.Is(err, ErrIncomplete) {
		t.Errorf("error %v, want that it is incomplete", err)
	}
}

// FuzzQUIC adds a datagram, and another whose packet holds the input as its frames, so that these are reached.
func FuzzQUIC(f *testing.F) {
	f.Add(initial(f, version1, "origin00", 1, bigCrypto(0, 1000)))
	f.Add(join(bigCrypto(1000, bigEnd), []byte{frameACKWithECN, 0, 0, 1, 0, 0, 0, 0, 0, 0}, bigCrypto(0, 1000)))
	f.Add(crypto(1<<20, []byte("far")))
	f.Add(unhex(f, rfcVectors[1].server))
	f.Fuzz(func(t *testing.T, input []byte) {
		protected := sealed{version: version2, origin: []byte("o"), destination: []byte("o"), numberBytes: 4, frames: input}.packet(t)
		bound := uint64(8*len(input) + 2*(maxCrypto+maxCrypto/8) + maxPackets*16384) // the keys of each packet
		if n := allocated(func() { addAll(input, protected) }); n > bound {
			t.Errorf("%d bytes allocated for a datagram of %d", n, len(input))
		}
	})
}

func addAll(datagrams ...[]byte) {
	var q Initials
	for _, from := range []Side{Client, Server} {
		for _, datagram := range datagrams {
			_ = q.Add(from, datagram)
		}
		if message, err := q.Message(from); err == nil && message.Type == MessageClientHello {
			_, _ = ParseClientHello(message.Body)
		}
	}
	for _, datagram := range datagrams {
		_ = Begins(datagram, q.Destinations())
	}
}

func BenchmarkInitials(b *testing.B) {
	datagram := initial(b, version1, "origin00", 1, crypto(0, message(MessageClientHello, chromeHello())))
	b.ReportAllocs()
	for b.Loop() {
		var q Initials
		if err := q.Add(Client, datagram); err != nil {
			b.Fatal(err)
		}
	}
}

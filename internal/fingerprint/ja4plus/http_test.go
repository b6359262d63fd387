package ja4plus

import (
	"strings"
	"testing"

	"weir/internal/fingerprint"
)

// post is the head of a request, with everything that the method looks at.
const post = "POST /plugins/run.php HTTP/1.1\r\nHost: 192.0.2.1\r\nContent-Length: 664\r\nAccept: */*; q=0.01\r\n" +
	"X-Requested-With: XMLHttpRequest\r\nUser-Agent: Mozilla/5.0\r\nContent-Type: text/plain\r\nOrigin: http://192.0.2.1\r\n" +
	"Referer: http://192.0.2.1/Main\r\nAccept-Encoding: gzip\r\nAccept-Language: en-US,en;q=0.9\r\n" +
	"Cookie: sid-hash=2; sid=1; a=x=y; flag\r\nConnection: close\r\n\r\nbody: 1\r\n"

func TestJA4H(t *testing.T) {
	const names = "Host,Content-Length,Accept,X-Requested-With,User-Agent,Content-Type,Origin,Accept-Encoding," +
		"Accept-Language,Connection"
	const cookies, pairs = "a,flag,sid,sid-hash", "a=x=y,flag,sid=1,sid-hash=2"
	hash := func(list string) string { return fingerprint.Hash([]byte(list)) }
	expect(t, JA4H([]byte(post)), fingerprint.Fingerprint{
		Method: "ja4h",
		Value:  "po11cr10enus_47d05ed57293_" + hash(cookies) + "_" + hash(pairs),
		Raw:    "po11cr10enus_" + names + "_" + cookies + "_" + pairs,
	})
}

// filler is a header, and the end of a head, of so many bytes.
func filler(length int) string {
	const start, end = "a: ", "\r\n\r\n"
	return start + strings.Repeat("b", length-len(start)-len(end)) + end
}

func TestJA4HRaw(t *testing.T) {
	const get, many = "GET / HTTP/1.1\r\n", 120
	for name, test := range map[string]struct{ head, raw string }{
		"no headers":            {"GET / HTTP/1.0\r\n\r\n", "ge10nn000000___"},
		"an empty value":        {get + "Sec-Ch-Ua:\r\nHost: a\r\n\r\n", "ge11nn020000_Sec-Ch-Ua,Host__"},
		"names as written":      {get + "hOST: a\r\nCOOKIE: a=1\r\nrEFERER: b\r\n\r\n", "ge11cr010000_hOST_a_a=1"},
		"a cookie without any":  {get + "Cookie: \r\n\r\n", "ge11cn000000___"},
		"cookies in two":        {get + "Cookie: b=1;\r\nCookie: a=2\r\n\r\n", "ge11cn000000__a,b_a=2,b=1"},
		"a short language":      {get + "Accept-Language: da, en-GB;q=0.8\r\n\r\n", "ge11nn01da00_Accept-Language__"},
		"a language alone":      {get + "Accept-Language: ru-RU;q=1\r\n\r\n", "ge11nn01ruru_Accept-Language__"},
		"no language to print":  {get + "Accept-Language: \x1b[2\xffJ\r\n\r\n", "ge11nn01[2j0_Accept-Language__"},
		"lines end in LF":       {"HEAD / HTTP/1.1\nHost: a\n\n", "he11nn010000_Host__"},
		"lines of no header":    {get + "Host: a\r\nrubbish\r\n folded: b\r\nna me: c\r\n: d\r\n\r\n", "ge11nn010000_Host__"},
		"another method":        {"M-SEARCH * HTTP/1.1\r\nMAN: x\r\n\r\n", "ms11nn010000_MAN__"},
		"blanks in the target":  {"GET /a b c HTTP/1.0\r\n\r\n", "ge10nn000000___"},
		"more than 99 headers":  {get + strings.Repeat("a:\r\n", many) + "\r\n", "ge11nn990000_a" + strings.Repeat(",a", many-1) + "__"},
		"as long as can be":     {get + filler(MaxHead-len(get)), "ge11nn010000_a__"},
		"longer than that":      {get + filler(MaxHead-len(get)+1), ""},
		"cut short":             {get + "Host: a\r\n", ""},
		"cut in the first line": {"GET / HTTP/1.1", ""},
		"HTTP/2":                {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""},
		"a response":            {"HTTP/1.1 200 OK\r\n\r\n", ""},
		"no target":             {"GET HTTP/1.1\r\n\r\n", ""},
		"a method of a letter":  {"G- / HTTP/1.1\r\n\r\n", ""},
		"no method":             {" / HTTP/1.1\r\n\r\n", ""},
		"nothing":               {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := JA4H([]byte(test.head)).Raw; got != test.raw {
				t.Errorf("got %q, want %q", got, test.raw)
			}
		})
	}
}

func TestJA4HWithoutLists(t *testing.T) {
	const want = "ge10nn000000_000000000000_000000000000_000000000000"
	if got := JA4H([]byte("GET / HTTP/1.0\r\n\r\n")).Value; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzHTTP(f *testing.F) {
	f.Add([]byte(post))
	f.Add([]byte("GET / HTTP/1.0\n\n"))
	f.Add([]byte("GET / HTTP/1.1\r\nCookie:" + strings.Repeat(";a", 4000) + "\r\n\r\n"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		costsNoMore(t, stream, JA4H)
	})
}

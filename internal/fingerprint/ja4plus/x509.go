package ja4plus

import (
	"encoding/hex"

	"weir/internal/fingerprint"
)

// JA4X returns the fingerprint of how an X.509 certificate was made, given in DER: hashes of the attribute types of the
// issuer, of those of the subject, and of the extensions, each in its order. It needs the outline of a certificate alone, so
// it tells of those too that crypto/x509 refuses for what is in them.
func JA4X(certificate []byte) fingerprint.Fingerprint {
	issuer, subject, extensions, ok := outline(certificate)
	if !ok {
		return fingerprint.Fingerprint{}
	}
	return fingerprint.Fingerprint{
		Method: "ja4x",
		Value:  fingerprint.Hash(issuer) + "_" + fingerprint.Hash(subject) + "_" + fingerprint.Hash(extensions),
		Raw:    string(issuer) + "_" + string(subject) + "_" + string(extensions),
	}
}

// The tags that the outline of a certificate is made of (ITU-T X.690; RFC 5280, appendix A).
const (
	tagInteger          = 0x02
	tagObjectIdentifier = 0x06
	tagSequence         = 0x30
	tagSet              = 0x31
	tagVersion          = 0xa0 // [0]
	tagExtensions       = 0xa3 // [3]
)

// outline returns the lists of a certificate's object identifiers (RFC 5280, section 4.1).
func outline(certificate []byte) (issuer, subject, extensions []byte, ok bool) {
	var bad bool
	whole := der{rest: certificate, bad: &bad}
	signed := whole.inside(tagSequence)
	tbs := signed.inside(tagSequence)
	if tbs.at(tagVersion) {
		tbs.next()
	}
	tbs.inside(tagInteger)  // serial number
	tbs.inside(tagSequence) // algorithm of the signature
	issuer = attributes(tbs.inside(tagSequence))
	tbs.inside(tagSequence) // validity
	subject = attributes(tbs.inside(tagSequence))
	tbs.inside(tagSequence) // public key
	for tbs.more() && !tbs.at(tagExtensions) {
		tbs.next() // unique identifiers, of old
	}
	if tbs.more() {
		tagged := tbs.inside(tagExtensions)
		for list := tagged.inside(tagSequence); list.more(); {
			extensions = appendIdentifier(extensions, list.inside(tagSequence))
		}
	}
	return issuer, subject, extensions, !bad
}

// attributes lists the types of a name's attributes, which is a sequence of sets of them.
func attributes(name der) []byte {
	var list []byte
	for name.more() {
		for set := name.inside(tagSet); set.more(); {
			list = appendIdentifier(list, set.inside(tagSequence))
		}
	}
	return list
}

// appendIdentifier appends the object identifier that an attribute or an extension begins with, as the hexadecimal digits of
// its encoding.
func appendIdentifier(list []byte, within der) []byte {
	if len(list) > 0 {
		list = append(list, ',')
	}
	identifier := within.inside(tagObjectIdentifier)
	if len(identifier.rest) == 0 {
		identifier.fail()
	}
	return hex.AppendEncode(list, identifier.rest)
}

// der takes elements off the front of bytes in DER (ITU-T X.690). If one is not there, or not what was asked for, all that is
// read of the same bytes is bad, and empty.
type der struct {
	rest []byte
	bad  *bool
}

func (d *der) more() bool {
	return !*d.bad && len(d.rest) > 0
}

// at says whether an element with the tag comes next.
func (d *der) at(tag byte) bool {
	return d.more() && d.rest[0] == tag
}

// inside takes the next element, which must have the tag, and returns its contents.
func (d *der) inside(tag byte) der {
	if !d.at(tag) {
		*d.bad = true
	}
	return der{rest: d.next(), bad: d.bad}
}

// next takes the next element and returns its contents. It knows tags of one byte, and lengths up to 24 bits, which is as
// long as a certificate can be in TLS.
func (d *der) next() []byte {
	const long, lengthBytes, anyTag = 0x80, 3, 0x1f
	header, length := 2, 0
	if *d.bad || len(d.rest) < header || d.rest[0]&anyTag == anyTag {
		return d.fail()
	}
	if first := int(d.rest[1]); first < long {
		length = first
	} else {
		header += first - long
		if first == long || first-long > lengthBytes || len(d.rest) < header {
			return d.fail()
		}
		for _, b := range d.rest[2:header] {
			length = length<<8 | int(b)
		}
	}
	if length > len(d.rest)-header {
		return d.fail()
	}
	contents := d.rest[header:][:length]
	d.rest = d.rest[header+length:]
	return contents
}

func (d *der) fail() []byte {
	*d.bad = true
	return nil
}

package deliver

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	recheckEvery   = time.Second // how often it is looked whether a file has changed
	maxCredentials = 1 << 20     // bytes of a file
)

// The settings that have the paths, for errors.
const (
	tokenSetting = "AGENT_TOKEN_FILE"
	caSetting    = "AGENT_TLS_CA_FILE"
	certSetting  = "AGENT_TLS_CERT_FILE"
	keySetting   = "AGENT_TLS_KEY_FILE"
)

// keyring holds what the files of Credentials say.
type keyring struct {
	paths Credentials
	log   *zap.Logger

	mu      sync.Mutex
	checked time.Time
	files   map[string]*file // by path
	token   string
	tls     *tls.Config
	reports throttle
}

// file is what one file was when it was last looked at.
type file struct {
	info    os.FileInfo
	content []byte
}

// current returns the token, if there is one, and what TLS needs: always the same pointer until that changes. It looks at
// the files again if the last time is a while ago.
func (k *keyring) current() (token string, config *tls.Config) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.checked) >= recheckEvery {
		k.checked = now
		if err := k.refresh(); err != nil {
			if count, ok := k.reports.allow(now, 1); ok {
				k.log.Error("credentials cannot be read again, using the old ones", zap.Error(err),
					zap.Int("since_last_report", count))
			}
		}
	}
	return k.token, k.tls
}

// open reads the files for the first time.
func (k *keyring) open() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refresh()
}

// refresh reads what has changed. If any of it is not valid, all stays as it was.
func (k *keyring) refresh() error {
	changed := k.tls == nil
	files := make(map[string]*file)
	for _, of := range [...]struct{ setting, path string }{
		{tokenSetting, k.paths.TokenPath},
		{caSetting, k.paths.CAPath},
		{certSetting, k.paths.CertPath},
		{keySetting, k.paths.KeyPath},
	} {
		path := of.path
		if path == "" {
			continue
		}
		f, err := readChanged(path, k.files[path])
		if err != nil {
			return fmt.Errorf("read %s: %w", of.setting, err)
		}
		changed = changed || f != k.files[path]
		files[path] = f
	}
	if !changed {
		return nil
	}
	token, err := k.parseToken(files)
	if err != nil {
		return err
	}
	config, err := k.parseTLS(files)
	if err != nil {
		return err
	}
	k.files, k.token, k.tls = files, token, config
	return nil
}

// readChanged returns old unless the file at path, or the one that it links to, is another now.
func readChanged(path string, old *file) (*file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if old != nil && os.SameFile(info, old.info) && info.ModTime().Equal(old.info.ModTime()) &&
		info.Size() == old.info.Size() {
		return old, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxCredentials+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxCredentials {
		return nil, fmt.Errorf("%s: it has more than %d bytes", path, maxCredentials)
	}
	return &file{info, content}, nil
}

// parseToken never repeats what is in the file.
func (k *keyring) parseToken(files map[string]*file) (string, error) {
	f := files[k.paths.TokenPath]
	if f == nil {
		return "", nil
	}
	token := strings.TrimSpace(string(f.content))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("read %s: %s: want one token of printable ASCII characters", tokenSetting, k.paths.TokenPath)
	}
	return token, nil
}

func (k *keyring) parseTLS(files map[string]*file) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f := files[k.paths.CAPath]; f != nil {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(f.content) {
			return nil, fmt.Errorf("read %s: %s: there is no certificate in PEM format", caSetting, k.paths.CAPath)
		}
	}
	if cert, key := files[k.paths.CertPath], files[k.paths.KeyPath]; cert != nil && key != nil {
		pair, err := tls.X509KeyPair(cert.content, key.content)
		if err != nil {
			return nil, fmt.Errorf("read %s: %s with the key %s: %w", certSetting, k.paths.CertPath, k.paths.KeyPath, err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

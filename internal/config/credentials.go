package config

import "errors"

// checkCredentials says what is wrong with them taken together, as none is by itself.
func (s *Settings) checkCredentials() error {
	token, certificate := s.TokenFile != "", s.TLSCertFile != ""
	password := s.EndpointURL.URL != nil && s.EndpointURL.URL.User != nil
	switch {
	case token && password:
		return errors.New("AGENT_TOKEN_FILE is set, and AGENT_ENDPOINT_URL has a user: want one of them")
	case (token || password || certificate) && s.EndpointURL.exposed() && !s.InsecureHTTP:
		return errors.New("AGENT_ENDPOINT_URL is a plain http:// URL, where anybody on the way could read the token or password, " +
			"or send what a client certificate should protect: want https://, or AGENT_INSECURE_HTTP=true")
	}
	return nil
}

// exposure is what the log should say of events that can be read on the way, or nothing.
func (s *Settings) exposure() []string {
	if !s.EndpointURL.exposed() {
		return nil
	}
	return []string{"AGENT_ENDPOINT_URL is a plain http:// URL: anybody on the way can read the events and change them"}
}

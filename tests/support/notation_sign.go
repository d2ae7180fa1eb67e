// Signs as Notation does, by the Notary Project's own package: a request in JSON on stdin, the
// envelope on stdout.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log"
	"os"
	"time"

	"github.com/notaryproject/notation-core-go/signature"
	_ "github.com/notaryproject/notation-core-go/signature/cose"
	_ "github.com/notaryproject/notation-core-go/signature/jws"
	"github.com/notaryproject/tspclient-go"
)

type request struct {
	Key, Chain, Type, ContentType, Scheme, Clock, ClockRoot, Critical string
	Payload                                                         json.RawMessage
	Signed, Expiry                                                  int64
}

func main() {
	var asked request
	check(json.NewDecoder(os.Stdin).Decode(&asked))
	pair, err := tls.LoadX509KeyPair(asked.Chain, asked.Key)
	check(err)
	var chain []*x509.Certificate
	for _, raw := range pair.Certificate {
		read, err := x509.ParseCertificate(raw)
		check(err)
		chain = append(chain, read)
	}
	signer, err := signature.NewLocalSigner(chain, pair.PrivateKey)
	check(err)
	wanted := &signature.SignRequest{
		Payload:       signature.Payload{ContentType: asked.ContentType, Content: asked.Payload},
		Signer:        signer,
		SigningTime:   time.Unix(asked.Signed, 0),
		SigningScheme: signature.SigningScheme(asked.Scheme),
		SigningAgent:  "tests",
	}
	if asked.Expiry != 0 {
		wanted.Expiry = time.Unix(asked.Expiry, 0)
	}
	if asked.Critical != "" {
		wanted.ExtendedSignedAttributes = []signature.Attribute{{Key: asked.Critical, Critical: true, Value: "x"}}
	}
	if asked.Clock != "" {
		wanted.Timestamper, err = tspclient.NewHTTPTimestamper(nil, asked.Clock)
		check(err)
		pem, err := os.ReadFile(asked.ClockRoot)
		check(err)
		wanted.TSARootCAs = x509.NewCertPool()
		wanted.TSARootCAs.AppendCertsFromPEM(pem)
	}
	envelope, err := signature.NewEnvelope(asked.Type)
	check(err)
	raw, err := envelope.Sign(wanted)
	check(err)
	_, err = os.Stdout.Write(raw)
	check(err)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

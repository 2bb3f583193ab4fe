package shs

import (
	"bytes"
	"crypto/ecdh"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"charkha/identity"
	"charkha/internal/vectors"
)

// hexBytes is binary that the sets spell in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// keyOf is the identity whose 64-byte secret (seed, then public key) is given.
func keyOf(t testing.TB, secret, public []byte) identity.KeyPair {
	t.Helper()
	if len(secret) != 64 {
		t.Fatalf("a secret key of %d bytes", len(secret))
	}
	key := identity.FromSeed([32]byte(secret[:32]))
	if id := key.ID(); !bytes.Equal(id[:], public) {
		t.Fatalf("the seed gives the key %x, want %x", id[:], public)
	}
	return key
}

func ephemeralOf(t testing.TB, secret, public []byte) *ecdh.PrivateKey {
	t.Helper()
	key, err := ecdh.X25519().NewPrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	if got := key.PublicKey().Bytes(); !bytes.Equal(got, public) {
		t.Fatalf("ephemeral public key %x, want %x", got, public)
	}
	return key
}

func equal(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\n got %x\nwant %x", what, got, want)
	}
}

// stepState is the state that the reference passes from step to step, as far as it is set.
type stepState struct {
	AppKey hexBytes `json:"app_key"`
	Local  struct {
		KxPK   hexBytes `json:"kx_pk"`
		KxSK   hexBytes `json:"kx_sk"`
		Public hexBytes `json:"publicKey"`
		Secret hexBytes `json:"secretKey"`
		AppMAC hexBytes `json:"app_mac"`
		Hello  hexBytes `json:"hello"`
	} `json:"local"`
	Remote struct {
		Public hexBytes `json:"publicKey"`
		KxPK   hexBytes `json:"kx_pk"`
		AppMAC hexBytes `json:"app_mac"`
		Hello  hexBytes `json:"hello"`
	} `json:"remote"`
	Secret  hexBytes `json:"secret"`
	SHash   hexBytes `json:"shash"`
	ABob    hexBytes `json:"a_bob"`
	BAlice  hexBytes `json:"b_alice"`
	Secret2 hexBytes `json:"secret2"`
	Secret3 hexBytes `json:"secret3"`
}

// handshake is the state as ours, with what the steps before have learned.
func (s *stepState) handshake(t *testing.T) *handshake {
	h := &handshake{network: [32]byte(s.AppKey), key: keyOf(t, s.Local.Secret, s.Local.Public), ephemeral: ephemeralOf(t, s.Local.KxSK, s.Local.KxPK)}
	copy(h.remote[:], s.Remote.Public)
	copy(h.theirs[:], s.Remote.KxPK)
	copy(h.ab[:], s.Secret)
	copy(h.aB[:], s.ABob)
	copy(h.box4[:], s.Secret3)
	copy(h.hello[:], s.Local.Hello)
	copy(h.hello[:], s.Remote.Hello)
	return h
}

func TestVectorSteps(t *testing.T) {
	type step struct {
		ID     int               `json:"id"`
		Name   string            `json:"name"`
		Args   []json.RawMessage `json:"args"`
		Result json.RawMessage   `json:"result"`
	}
	for _, c := range vectors.JSONLines[step](t, "shs-steps", "cases.jsonl.gz") {
		t.Run(fmt.Sprintf("%d-%s", c.ID, c.Name), func(t *testing.T) {
			decode := func(raw json.RawMessage, into any) {
				t.Helper()
				if err := json.Unmarshal(raw, into); err != nil {
					t.Fatal(err)
				}
			}
			refused := string(c.Result) == "null"
			if c.Name == "toKeys" {
				var secret hexBytes
				var want struct{ PublicKey, SecretKey hexBytes }
				decode(c.Args[0], &secret)
				decode(c.Result, &want)
				key := identity.FromSeed([32]byte(secret[:32]))
				id := key.ID()
				equal(t, "public key", id[:], want.PublicKey)
				equal(t, "secret key", append(secret[:32:32], id[:]...), want.SecretKey)
				return
			}
			var before, after stepState
			var packet, wantPacket hexBytes
			decode(c.Args[0], &before)
			if len(c.Args) > 1 {
				decode(c.Args[1], &packet)
			}
			switch {
			case refused:
			case c.Result[0] == '"':
				decode(c.Result, &wantPacket)
			default:
				decode(c.Result, &after)
			}
			h := before.handshake(t)
			var err error
			switch c.Name {
			case "initialize":
				msg := h.challenge()
				equal(t, "app_mac", msg[:32], after.Local.AppMAC)
				equal(t, "kx_pk", msg[32:], after.Local.KxPK)
			case "createChallenge":
				msg := h.challenge()
				equal(t, "challenge", msg[:], wantPacket)
			case "verifyChallenge", "clientVerifyChallenge":
				// The recorder noted the state after the step; the step is taken from before it.
				h.theirs, h.ab, h.aB, h.hello = [32]byte{}, [32]byte{}, [32]byte{}, [96]byte{}
				if err = h.readChallenge((*[challengeSize]byte)(packet)); err != nil || refused {
					break
				}
				mac := h.mac(h.theirs[:])
				equal(t, "remote kx_pk", h.theirs[:], after.Remote.KxPK)
				equal(t, "remote app_mac", mac[:], after.Remote.AppMAC)
				equal(t, "secret", h.ab[:], after.Secret)
				if c.Name == "verifyChallenge" {
					break
				}
				if err = h.meet(); err != nil {
					break
				}
				if _, err = h.makeAuth(); err != nil {
					break
				}
				key := h.box3()
				equal(t, "a_bob", h.aB[:], after.ABob)
				equal(t, "secret2", key[:], after.Secret2)
				equal(t, "hello", h.hello[:], after.Local.Hello)
			case "clientCreateAuth":
				var msg [authSize]byte
				msg, err = h.makeAuth()
				equal(t, "message 3", msg[:], wantPacket)
			case "serverVerifyAuth":
				h.aB, h.box4, h.hello, h.remote = [32]byte{}, [32]byte{}, [96]byte{}, identity.ID{}
				if err = h.readAuth((*[authSize]byte)(packet)); err != nil || refused {
					break
				}
				equal(t, "client", h.remote[:], after.Remote.Public)
				equal(t, "hello", h.hello[:], after.Remote.Hello)
				equal(t, "a_bob", h.aB[:], after.ABob)
				equal(t, "secret3", h.box4[:], after.Secret3)
				Ab, err := h.withRemote()
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "b_alice", Ab[:], after.BAlice)
			case "serverCreateAccept":
				msg := h.makeAccept()
				equal(t, "message 4", msg[:], wantPacket)
			case "clientVerifyAccept":
				h.box4 = [32]byte{}
				Ab, perr := h.longTerm(&h.theirs)
				if perr != nil {
					t.Fatal(perr)
				}
				h.agree(&Ab)
				if err = h.readAccept((*[acceptSize]byte)(packet)); err != nil || refused {
					break
				}
				equal(t, "b_alice", Ab[:], after.BAlice)
				equal(t, "secret3", h.box4[:], after.Secret3)
			default:
				t.Fatalf("a step that this test does not know: %s", c.Name)
			}
			if (err != nil) != refused {
				t.Errorf("error %v, want refusal: %v", err, refused)
			}
		})
	}
}

// scripted is a peer whose messages were recorded: it checks what it is sent, and counts.
type scripted struct {
	in  io.Reader
	out bytes.Buffer
}

func (s *scripted) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *scripted) Write(p []byte) (int, error) { return s.out.Write(p) }

type transcript struct {
	ID         int      `json:"id"`
	Role       string   `json:"role"`
	Network    hexBytes `json:"network_identifier"`
	ServerPK   hexBytes `json:"server_longterm_pk"`
	ServerSK   hexBytes `json:"server_longterm_sk"`
	ClientPK   hexBytes `json:"client_longterm_pk"`
	ClientSK   hexBytes `json:"client_longterm_sk"`
	ServerEPK  hexBytes `json:"server_ephemeral_pk"`
	ServerESK  hexBytes `json:"server_ephemeral_sk"`
	ClientEPK  hexBytes `json:"client_ephemeral_pk"`
	ClientESK  hexBytes `json:"client_ephemeral_sk"`
	Msg1       hexBytes `json:"msg1"`
	Msg2       hexBytes `json:"msg2"`
	Msg3       hexBytes `json:"msg3"`
	Msg4       hexBytes `json:"msg4"`
	Result     string   `json:"result"`
	SealKey    hexBytes `json:"encryption_key"`
	SealNonce  hexBytes `json:"encryption_nonce"`
	OpenKey    hexBytes `json:"decryption_key"`
	OpenNonce  hexBytes `json:"decryption_nonce"`
	wantRemote []byte
}

// play takes the side under test through the conversation and compares all that it says and learns.
func (c *transcript) play(t *testing.T) {
	var h *handshake
	var conversation *scripted
	var says []byte
	var err error
	switch c.Role {
	case "client":
		h = &handshake{network: [32]byte(c.Network), key: keyOf(t, c.ClientSK, c.ClientPK), remote: identity.ID(c.ServerPK),
			ephemeral: ephemeralOf(t, c.ClientESK, c.ClientEPK)}
		conversation = &scripted{in: bytes.NewReader(append(c.Msg2[:len(c.Msg2):len(c.Msg2)], c.Msg4...))}
		says = append(c.Msg1[:len(c.Msg1):len(c.Msg1)], c.Msg3...)
		if c.Result == "reject-msg2" {
			says = c.Msg1
		}
		err = h.client(conversation)
	case "server":
		h = &handshake{network: [32]byte(c.Network), key: keyOf(t, c.ServerSK, c.ServerPK), ephemeral: ephemeralOf(t, c.ServerESK, c.ServerEPK)}
		conversation = &scripted{in: bytes.NewReader(append(c.Msg1[:len(c.Msg1):len(c.Msg1)], c.Msg3...))}
		switch c.Result {
		case "ok":
			says = append(c.Msg2[:len(c.Msg2):len(c.Msg2)], c.Msg4...)
		case "reject-msg3":
			says = c.Msg2
		}
		err = h.server(conversation, nil)
	default:
		t.Fatalf("a role that this test does not know: %q", c.Role)
	}
	equal(t, "said", conversation.out.Bytes(), says)
	var fault *refusal
	switch {
	case c.Result == "ok" && err != nil:
		t.Fatal(err)
	case c.Result == "ok":
	case !strings.HasPrefix(c.Result, "reject-msg"):
		t.Fatalf("a result that this test does not know: %q", c.Result)
	case !errors.As(err, &fault):
		t.Fatalf("error %v, want a refusal", err)
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		t.Fatalf("error %v: it asked for more instead of refusing what there was", err)
	default:
		return
	}
	seal, open := h.outcome()
	equal(t, "sealing key", seal.key[:], c.SealKey)
	equal(t, "sealing nonce", seal.nonce[:], c.SealNonce)
	equal(t, "opening key", open.key[:], c.OpenKey)
	equal(t, "opening nonce", open.nonce[:], c.OpenNonce)
	if c.wantRemote != nil {
		equal(t, "remote", h.remote[:], c.wantRemote)
	}
}

func TestVectorTranscripts(t *testing.T) {
	for _, c := range vectors.JSONLines[transcript](t, "shs-transcripts", "transcripts.jsonl.gz") {
		t.Run(fmt.Sprintf("%d-%s-%s", c.ID, c.Role, c.Result), func(t *testing.T) { c.play(t) })
	}
}

func TestVectorFixedTranscript(t *testing.T) {
	c := vectors.JSON[map[string]hexBytes](t, "shs-transcripts", "fixed.json")
	both := transcript{
		Network: c["app"], Result: "ok",
		ServerPK: c["server_pub"], ServerSK: c["server_sec"], ServerEPK: c["server_eph_pub"], ServerESK: c["server_eph_sec"],
		ClientPK: c["client_pub"], ClientSK: c["client_sec"], ClientEPK: c["client_eph_pub"], ClientESK: c["client_eph_sec"],
		Msg1: c["msg1"], Msg2: c["msg2"], Msg3: c["msg3"], Msg4: c["msg4"],
	}
	client, server := both, both
	client.Role, client.wantRemote = "client", c["server_pub"]
	client.SealKey, client.SealNonce = c["exp_client_enc_key"], c["exp_client_enc_nonce"]
	client.OpenKey, client.OpenNonce = c["exp_client_dec_key"], c["exp_client_dec_nonce"]
	server.Role, server.wantRemote = "server", c["client_pub"]
	server.SealKey, server.SealNonce = client.OpenKey, client.OpenNonce
	server.OpenKey, server.OpenNonce = client.SealKey, client.SealNonce
	t.Run("client", client.play)
	t.Run("server", server.play)
}

type boxCase struct {
	ID         int        `json:"id"`
	Kind       string     `json:"kind"`
	What       string     `json:"what"`
	Key        hexBytes   `json:"key"`
	Nonce      hexBytes   `json:"nonce"`
	Writes     []hexBytes `json:"writes"`
	Packets    []int      `json:"packets"`
	Ciphertext hexBytes   `json:"ciphertext"`
	Plain      hexBytes   `json:"plain_before_error"`
}

func (c *boxCase) direction() direction {
	return direction{key: [32]byte(c.Key), nonce: [24]byte(c.Nonce)}
}

func TestVectorBoxStream(t *testing.T) {
	for _, c := range vectors.JSONLines[boxCase](t, "box-stream", "generated.jsonl.gz") {
		t.Run(fmt.Sprintf("%d-%s%s", c.ID, c.Kind, c.What), func(t *testing.T) {
			switch c.Kind {
			case "ok":
				var all []byte
				socket := &memory{}
				conn := newConn(socket, identity.ID{}, c.direction(), direction{})
				for _, w := range c.Writes {
					all = append(all, w...)
					if n, err := conn.Write(w); n != len(w) || err != nil {
						t.Fatalf("write %d bytes: %d, %v", len(w), n, err)
					}
				}
				if err := conn.Close(); err != nil {
					t.Fatal(err)
				}
				equal(t, "ciphertext", socket.written.Bytes(), c.Ciphertext)
				want := len(c.Packets)*headerSize + len(all) + headerSize
				if socket.written.Len() != want {
					t.Errorf("%d bytes, want %d in packets of %d", socket.written.Len(), want, c.Packets)
				}
				readsBack(t, &c, all, nil)
			case "bad":
				// The reference ignores what follows a goodbye; all else has to be an error, cuts between header and body too.
				if c.What == "trailing-after-goodbye" {
					readsBack(t, &c, c.Plain, nil)
					return
				}
				want := ErrDamaged
				if strings.HasPrefix(c.What, "truncate") {
					want = io.ErrUnexpectedEOF
				}
				readsBack(t, &c, c.Plain, want)
			default:
				t.Fatalf("a kind that this test does not know: %q", c.Kind)
			}
		})
	}
}

// readsBack reads the ciphertext in several ways, as the socket may cut it and the caller may ask for it.
func readsBack(t *testing.T, c *boxCase, plain []byte, want error) {
	t.Helper()
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, uint64(c.ID)))
		conn := newConn(&memory{toRead: c.Ciphertext, rnd: rnd}, identity.ID{}, direction{}, c.direction())
		got, err := readAll(conn, rnd)
		equal(t, fmt.Sprintf("plaintext (seed %d)", seed), got, plain)
		if !errors.Is(err, want) {
			t.Errorf("error %v, want %v (seed %d)", err, want, seed)
		}
		if n, again := conn.Read(make([]byte, 9)); n != 0 || (want != nil && again != err) || (want == nil && again != io.EOF) {
			t.Errorf("read after the end: %d, %v; want 0, %v", n, again, err)
		}
	}
}

func TestVectorFixedBoxStream(t *testing.T) {
	type fixed struct {
		boxCase
		Head1     hexBytes `json:"head1"`
		Body1     hexBytes `json:"body1"`
		Head2     hexBytes `json:"head2"`
		Body2     hexBytes `json:"body2"`
		Goodbye   hexBytes `json:"goodbye"`
		Increment []struct {
			Start hexBytes `json:"start"`
			Next  hexBytes `json:"next"`
		} `json:"nonce_increment"`
	}
	c := vectors.JSON[fixed](t, "box-stream", "fixed.json")
	seal := c.direction()
	first, second := seal.seal(nil, c.Writes[0]), seal.seal(nil, c.Writes[1])
	equal(t, "first packet", first, append(c.Head1, c.Body1...))
	equal(t, "second packet", second, append(c.Head2, c.Body2...))
	equal(t, "goodbye", seal.goodbye(nil), c.Goodbye)
	for _, i := range c.Increment {
		nonce := [24]byte(i.Start)
		increment(&nonce)
		equal(t, "increment", nonce[:], i.Next)
	}
}

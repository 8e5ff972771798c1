package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/caddy-sse/caddy-sse/internal/connection"
)

// The arguments that make this program one of the run's two machines. Each is a
// network namespace in a user namespace, which needs no root.
const (
	vanishingServer = "vanishing-server"
	vanishingClient = "vanishing-client"
)

const (
	serverAddress = "10.71.0.1"
	clientAddress = "10.71.0.2"
	clientMAC     = "02:00:00:00:00:02"
)

// benchVanished measures how long Caddy holds the streams of a client that has
// vanished from the network without a FIN or a RST.
func benchVanished(ctx context.Context, o *vanishedOptions) error {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", vanishingServer, o.total.String())
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	return cmd.Run()
}

const vanishedCaddyfile = `{
	admin off
	persist_config off
	auto_https off
	default_sni localhost
	storage file_system %[1]s
	log {
		output discard
	}
}
https://%[2]s {
	tls %[1]s/cert.pem %[1]s/key.pem
	sse /quiet {
		name quiet
		topic quiet
	}
	sse /busy {
		name busy
		topic busy
	}
}
http://%[2]s:8080 {
	metrics /metrics
	sse /publish {
		webhook {
			verify none
			topic busy
		}
	}
}
`

// vanishingStreams are the client's streams, each on a connection of its own.
var vanishingStreams = []struct{ proto, rule string }{{"1", "quiet"}, {"1", "busy"}, {"2", "quiet"}, {"2", "busy"}, {"3", "quiet"}, {"3", "busy"}}

// runVanishingServer is the server's machine. It starts the client's.
func runVanishingServer(limit time.Duration) (err error) {
	client := exec.Command("/proc/self/exe", vanishingClient, "")
	client.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	client.Stderr = os.Stderr
	in, _ := client.StdinPipe()
	out, _ := client.StdoutPipe()
	if err := client.Start(); err != nil {
		return err
	}
	defer func() { in.Close(); err = errors.Join(err, client.Wait()) }()
	replies := bufio.NewScanner(out)
	tellClient := func(word string) error {
		if _, err := fmt.Fprintln(in, word); err != nil {
			return err
		}
		if !replies.Scan() || replies.Text() != word {
			return fmt.Errorf("the client replied %q to %q", replies.Text(), word)
		}
		return nil
	}
	if err := ip("link set lo up",
		"link add server type veth peer name client address "+clientMAC,
		fmt.Sprintf("link set client netns %d", client.Process.Pid),
		"addr add "+serverAddress+"/30 dev server", "link set server up",
		// A client behind a router keeps its entry in the server's ARP table.
		"neigh replace "+clientAddress+" lladdr "+clientMAC+" dev server nud permanent"); err != nil {
		return err
	}
	caddy := &caddyProcess{url: "http://" + serverAddress + ":8080"}
	if err := caddy.launch(func(dir string) string { return fmt.Sprintf(vanishedCaddyfile, dir, serverAddress) }); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, caddy.stop()) }()
	if err := tellClient("open"); err != nil {
		return err
	}
	return measureVanished(caddy, tellClient, limit)
}

// measureVanished measures how long the client's streams stay open after it has
// vanished.
func measureVanished(caddy *caddyProcess, tellClient func(string) error, limit time.Duration) error {
	held := make(map[int]time.Duration)
	var gone time.Time
	for published := 0; len(held) < len(vanishingStreams) && (gone.IsZero() || time.Since(gone) < limit); published++ {
		resp, err := http.Post(caddy.url+"/publish", "text/plain", strings.NewReader("an event each second"))
		if err != nil {
			return err
		}
		resp.Body.Close()
		metrics, err := scrape(caddy.url + "/metrics")
		if err != nil {
			return err
		}
		for i, s := range vanishingStreams {
			open := metrics[fmt.Sprintf("caddy_sse_streams{hub=%q,proto=%q,rule=%q}", "default", s.proto, s.rule)]
			if _, ended := held[i]; !ended && open == 0 {
				if gone.IsZero() {
					return fmt.Errorf("%v is not open", s)
				}
				held[i] = time.Since(gone)
				progressf("%v: %s", s, short(held[i]))
			}
		}
		if published == 20 { // the streams have had a heartbeat, and events
			if err := tellClient("vanish"); err != nil {
				return err
			}
			gone = time.Now()
		}
		time.Sleep(time.Second)
	}
	fmt.Printf("A client that vanishes from the network; measured for %v. %s.\n\n| | heartbeats only | an event each second |\n| --- | --: | --: |\n", limit, machine())
	for i := 0; i < len(vanishingStreams); i += 2 {
		fmt.Printf("| HTTP/%s | %s | %s |\n", vanishingStreams[i].proto, heldFor(held, i, limit), heldFor(held, i+1, limit))
	}
	return nil
}

func heldFor(held map[int]time.Duration, i int, limit time.Duration) string {
	if d, ended := held[i]; ended {
		return fmt.Sprintf("%.0f s", d.Seconds())
	}
	return fmt.Sprintf("more than %v", limit)
}

// runVanishingClient is the client's machine. It executes commands until its input
// ends.
func runVanishingClient() error {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var err error
		switch lines.Text() {
		case "open":
			if err = ip("link set lo up", "addr add "+clientAddress+"/30 dev client", "link set client up"); err == nil {
				err = openVanishing()
			}
		case "vanish": // it can't receive or send packets any more
			err = ip("addr del " + clientAddress + "/30 dev client")
		}
		if err != nil {
			return err
		}
		fmt.Println(lines.Text())
	}
	return nil
}

func openVanishing() error {
	for _, s := range vanishingStreams {
		resp, err := clientOf(s.proto).Get("https://" + serverAddress + "/" + s.rule)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK || fmt.Sprint(resp.ProtoMajor) != s.proto {
			return fmt.Errorf("%v: %s %s", s, resp.Proto, resp.Status)
		}
		go func() { _, _ = io.Copy(io.Discard, resp.Body) }()
	}
	return nil
}

// clientOf returns a client with its own connection.
func clientOf(proto string) *http.Client {
	if proto == "3" {
		return &http.Client{Transport: &http3.Transport{TLSClientConfig: connection.Insecure()}}
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(proto == "1")
	protocols.SetHTTP2(proto == "2")
	return &http.Client{Transport: &http.Transport{Protocols: protocols, TLSClientConfig: connection.Insecure()}}
}

// ip configures this machine's network, with iproute2.
func ip(commands ...string) error {
	for _, c := range commands {
		if output, err := exec.Command("ip", strings.Fields(c)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", c, err, output)
		}
	}
	return nil
}

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// table writes the results in Markdown.
func (r *run) table(d *feeds, big int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Results\n\nWritten by `make bench`; [README.md](README.md) says what each row compares. Medians of %d runs, interleaved.\n", r.runs)
	fmt.Fprintf(&b, "Machine: %d cores of %s, %s/%s, %s, Node %s.\n", runtime.NumCPU(), processor(), runtime.GOOS, runtime.GOARCH, runtime.Version(), version("node", "--version"))
	fmt.Fprintf(&b, "Data: %d messages of %d authors, %d bytes of compact JSON each.\n\n", d.Messages, d.Authors, d.json/int64(d.Messages))
	b.WriteString("| what | Charkha | beside it | ratio | bar | holds |\n|---|---|---|---|---|---|\n")
	line := func(what, ours, rival, ratio, bar string, holds bool) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", what, ours, rival, ratio, bar, map[bool]string{true: "yes", false: "NO"}[holds])
	}
	has := func(name string) bool { return len(r.samples[name]) > 0 }
	// faster compares two speeds or the inverse of two times.
	faster := func(what, ours, rival, unit string, ratio, bar float64) {
		if ratio > 0 {
			line(what, fmt.Sprintf("%s %s", number(r.median(ours)), unit), fmt.Sprintf("%s %s", number(r.median(rival)), unit),
				fmt.Sprintf("%.2f", ratio), fmt.Sprintf("at least %v", bar), ratio >= bar)
		}
	}
	// below compares with a fixed bar.
	below := func(what, name, unit string, bar float64) {
		if has(name) {
			line(what, number(r.median(name))+" "+unit, "", "", fmt.Sprintf("below %v %s", bar, unit), r.median(name) < bar)
		}
	}
	div := func(x, y string) float64 {
		if r.median(y) == 0 {
			return 0
		}
		return r.median(x) / r.median(y)
	}
	for _, size := range []string{"256", "1024"} {
		faster("parse, canonical bytes, id and signatures in batches of "+size+", one core; beside `crypto/ed25519` + `encoding/json`",
			"Verify/bulk/"+size+", 1 cores", "Verify/standard, 1 cores", "us", div("Verify/standard, 1 cores", "Verify/bulk/"+size+", 1 cores"), 3.5)
	}
	faster("the same in batches of 1024 a core on two cores; beside one", "Verify/bulk/2048, 2 cores", "Verify/bulk/1024, 1 cores", "us",
		div("Verify/bulk/1024, 1 cores", "Verify/bulk/2048, 2 cores"), 1.8)
	faster(fmt.Sprintf("`log.Append` of %s messages, on disk; beside ssb-db2 `addTransaction`", number(float64(d.Messages))), "append charkha", "append ssb-db2", "/s", div("append charkha", "append ssb-db2"), 8)
	faster(fmt.Sprintf("replication of %s messages by EBT, loopback TCP, two processes; beside two ssb-db2 + ssb-ebt", number(float64(d.Messages))), "replicate charkha", "replicate ssb-db2", "/s", div("replicate charkha", "replicate ssb-db2"), 8)
	faster("from Charkha to ssb-db2; beside ssb-db2 to ssb-db2", "charkha to ssb-db2", "replicate ssb-db2", "/s", div("charkha to ssb-db2", "replicate ssb-db2"), 1.3)
	faster("from ssb-db2 to Charkha; beside ssb-db2 to ssb-db2", "ssb-db2 to charkha", "replicate ssb-db2", "/s", div("ssb-db2 to charkha", "replicate ssb-db2"), 1.3)
	if has("big") && has("replicate charkha") {
		ratio := div("replicate charkha", "big")
		line(fmt.Sprintf("replication of %s messages: time a message; beside %s", number(float64(big)), number(float64(d.Messages))),
			number(r.median("big"))+" /s", number(r.median("replicate charkha"))+" /s", fmt.Sprintf("%.2f", ratio), "at most 1.25", ratio <= 1.25)
	}
	below("peak anonymous memory of that receiver", "big, peak", "MB", 250)
	below(fmt.Sprintf("idle with %s messages stored", number(float64(big))), "big, idle", "MB", 80)
	below(fmt.Sprintf("start with %s messages until the first answer", number(float64(big))), "big, start", "s", 0.5)
	below("disk of the log, of the compact JSON", "big, disk", "times", 1)
	if has("feed") {
		line("a feed of 1,000 to the local socket by createHistoryStream", number(r.median("feed"))+" /s", "", "", "at least 300,000 /s", r.median("feed") >= 300_000)
	}
	if ratio := div("Publish/log", "Publish/append+fsync"); ratio > 0 {
		line("publish, durable, one at a time; beside append + fsync", number(r.median("Publish/log"))+" us", number(r.median("Publish/append+fsync"))+" us", fmt.Sprintf("%.2f", ratio), "at most 1.5", ratio <= 1.5)
	}
	below("EBT reconnect of two nodes with 10,000 feeds: time", "reconnect", "ms", 50)
	below("the same: bytes both ways, with one message of about 400", "reconnect, bytes", "bytes", 2048)
	faster("a blob of 50 MiB, loopback TCP, two processes; beside two ssb-blobs", "blobs charkha, 50 MiB", "blobs ssb-blobs, 50 MiB", "MB/s", div("blobs charkha, 50 MiB", "blobs ssb-blobs, 50 MiB"), 5)
	if rate := r.median("blobs charkha, 50 MiB"); has("blobs charkha, 50 MiB") {
		line("the same by itself", number(rate)+" MB/s", "", "", "at least 200 MB/s", rate >= 200)
	}
	below("the same: anonymous memory of the receiver grows by", "blobs, memory of the receiver, 50 MiB", "MB", 16)
	below("the same: anonymous memory of the sender grows by", "blobs, memory of the sender, 50 MiB", "MB", 16)
	faster("a blob of 5 MiB, the largest that JS peers take by themselves; beside two ssb-blobs", "blobs charkha, 5 MiB", "blobs ssb-blobs, 5 MiB", "MB/s", div("blobs charkha, 5 MiB", "blobs ssb-blobs, 5 MiB"), 5)

	b.WriteString("\nBeside the bars:\n\n| what | |\n|---|---|\n")
	for _, extra := range []struct{ what, name, unit string }{
		{"batches of 1024, one core, without assembly (`purego`)", "Verify/bulk/1024, purego", "us a message"},
		{"the standard library in the same build", "Verify/standard, purego", "us a message"},
		{"a message is on the publisher's disk and answered after", "live, answered", "us (p50)"},
		{"the other node holds it after", "live, held", "us (p50)"},
		{"CPU of both for a blob of 50 MiB", "blobs charkha, cpu, 50 MiB", "ms"},
		{"receiver's CPU, small", "replicate charkha, cpu", "us a message"},
		{"receiver's CPU, large", "big, cpu", "us a message"},
		{"file-backed memory of the large receiver", "big, file", "MB"},
		{"index on disk", "big, index", "bytes a message"},
		{"peak anonymous memory, small", "replicate charkha, peak", "MB"},
		{"disk of the small log", "replicate charkha, disk", "of the compact JSON"},
	} {
		if has(extra.name) {
			fmt.Fprintf(&b, "| %s | %s %s |\n", extra.what, number(r.median(extra.name)), extra.unit)
		}
	}
	return b.String()
}

// number writes three digits at least, thousands apart.
func number(x float64) string {
	switch {
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	case x < 1000:
		return fmt.Sprintf("%.0f", x)
	}
	text := fmt.Sprintf("%.0f", x)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func processor() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "an unknown processor"
	}
	for line := range strings.Lines(string(info)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return "an unknown processor"
}

func version(cmd ...string) string {
	out, err := exec.Command(cmd[0], cmd[1:]...).Output()
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(out))
}

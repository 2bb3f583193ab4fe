package muxrpc_test

import (
	"context"
	"fmt"
	"io"
	"net"

	"charkha/muxrpc"
)

func Example() {
	methods, err := muxrpc.NewRegistry([]muxrpc.Method{{
		Name: "count.to", Kind: muxrpc.Source, Anonymous: true, Doc: "the numbers from 1 to n",
		Stream: func(ctx context.Context, req *muxrpc.Request, s *muxrpc.Stream) error {
			n := 3
			if err := req.Decode(&n); err != nil {
				return err
			}
			for i := range n {
				if err := s.SendJSON(fmt.Append(nil, i+1)); err != nil {
					return err
				}
			}
			return nil
		},
	}})
	if err != nil {
		panic(err)
	}
	a, b := net.Pipe()
	ctx := context.Background()
	server := muxrpc.New(a, muxrpc.Options{Registry: methods})
	go server.Run(ctx)
	client := muxrpc.New(b, muxrpc.Options{})
	go client.Run(ctx)
	defer client.Close()

	manifest, err := client.Async(ctx, "manifest")
	fmt.Println(string(manifest), err)
	s, err := client.Source(ctx, "count.to", 2)
	if err != nil {
		panic(err)
	}
	defer s.Close()
	for {
		body, err := s.Recv()
		if err == io.EOF {
			break
		}
		fmt.Println(string(body.Data), err)
	}
	_, err = client.Async(ctx, "count.to")
	fmt.Println(err)
	// Output:
	// {"count":{"help":"sync","to":"source"},"help":"sync","manifest":"sync"} <nil>
	// 1 <nil>
	// 2 <nil>
	// no async:count,to
}

package wire

import (
	"context"

	"google.golang.org/grpc"
)

// Unary describes a method with one request and one answer.
func Unary[Request, Answer any](
	service, name string, handle func(context.Context, *Request) (*Answer, error),
) grpc.MethodDesc {
	full := "/" + service + "/" + name
	return grpc.MethodDesc{
		MethodName: name,
		Handler: func(_ any, ctx context.Context, decode func(any) error, guard grpc.UnaryServerInterceptor) (any, error) {
			request := new(Request)
			if err := decode(request); err != nil {
				return nil, err
			}
			if guard == nil {
				return handle(ctx, request)
			}
			info := &grpc.UnaryServerInfo{FullMethod: full}
			return guard(ctx, request, info, func(ctx context.Context, request any) (any, error) {
				return handle(ctx, request.(*Request))
			})
		},
	}
}

// Streaming describes a method that answers one request with many messages.
func Streaming[Request, Answer any](
	name string, handle func(context.Context, *Request, func(*Answer) error) error,
) grpc.StreamDesc {
	return grpc.StreamDesc{
		StreamName:    name,
		ServerStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error {
			request := new(Request)
			if err := stream.RecvMsg(request); err != nil {
				return err
			}
			return handle(stream.Context(), request, func(answer *Answer) error { return stream.SendMsg(answer) })
		},
	}
}

// Call makes one call of a method with one answer.
func Call[Answer any](ctx context.Context, to *grpc.ClientConn, method string, request any) (*Answer, error) {
	answer := new(Answer)
	return answer, to.Invoke(ctx, method, request, answer)
}

// CallStreaming makes one call and gives each message of its answer to `each`.
func CallStreaming[Answer any](
	ctx context.Context, to *grpc.ClientConn, method string, request any, each func(*Answer) error,
) error {
	stream, err := to.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(request); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		answer := new(Answer)
		if err := stream.RecvMsg(answer); err != nil {
			return EndOfStream(err)
		}
		if err := each(answer); err != nil {
			return err
		}
	}
}

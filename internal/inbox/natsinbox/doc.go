// Package natsinbox receives what keyhook sends to a NATS server of its own, for
// `keyhook dev` and for tests. It makes what a delivery needs to arrive before
// it is sent: a stream that takes its subject, a listener, or an application
// that replies.
//
//	JetStream   told of when the stream holds the message, with its number
//	request     told of when the reply is sent
//	core        told of when the message comes in
//
// Streams are kept in memory and in bounds: the oldest messages give way.
package natsinbox

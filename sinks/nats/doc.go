// Package nats delivers messages to subjects of NATS, in one of three ways that
// differ in what they take for an acknowledgement:
//
//	JetStream   the stream's publish acknowledgement: the message is stored
//	request     a reply of whoever listens on the subject
//	core        a flush: the server has read the message, whoever listens or not
//
// Only an acknowledgement settles a delivery. What else may happen:
//
//	bad subject, header or CloudEvent; over max_payload,
//	over the stream's max_msg_size or 64 KiB of headers     rejected: a dead letter
//	no connection, denied, no stream, no listener,
//	an error reply, nothing within Config.Timeout           retry
//	the caller's context ended                              interrupted
//
// Every message carries the id of its delivery as Nats-Msg-Id, so that a stream
// stores it once within its duplicate window, and an application can tell a
// repetition at any time.
//
// # Connections
//
// A sink has at most one connection, made when a delivery needs it: by New none,
// after a loss another one, for as long as there are deliveries. A delivery
// waits for the attempt to connect that is under way, not for the one after it.
//
//	      Deliver              connected
//	none ────────▶ connecting ───────────▶ up ──┐
//	 ▲                 │ failed                 │ lost: all that waits fails
//	 └─────────────────┴────────────────────────┘
//
// The client library's own reconnecting is switched off. It would carry messages
// from one connection to the next, so that a flush could succeed for a message
// that was lost before; it holds its lock while it dials, so that nothing could
// be interrupted; and there are errors after which it gives up for good. A
// connection that lives once has none of this: an acknowledgement always belongs
// to the connection that the message went out on. Other servers of a cluster
// are learned of as usual. Files (credentials, certificates) are read again for
// each connection.
//
// # Limits
//
// At most Config.MaxPending messages wait for an acknowledgement; more of them
// wait to be sent. The messages of one Deliver go out in order, without waiting
// for each other's acknowledgement.
//
// # CloudEvents
//
// Messages of the type application/cloudevents+json go out as they are
// (structured mode), or, if Config.Binary is set, with their attributes as
// headers "ce-..." in the percent-encoding of the CloudEvents NATS binding and
// their data as the body. Other messages get the header Keyhook-Key, the key of
// the event in the same encoding.
//
// No error holds a secret: texts of others are searched for those of the
// configuration.
package nats

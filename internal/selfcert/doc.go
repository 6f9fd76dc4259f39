// Package selfcert keeps the certificate an HTTPS listener shows: one it makes
// itself, which clients know by the pin of its key, or one given as files, which
// authorities vouch for.
//
//   - [Make] loads or makes a key and a certificate of it, renewed in time.
//   - [Load] takes the files of a certificate from elsewhere, read again when they change.
//   - [Certificate] is either. [Certificate.Run] keeps it current.
//
// It opens no port and knows no protocol but what tls.Config asks for.
package selfcert

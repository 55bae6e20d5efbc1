#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <string_view>

namespace thaw::net {
namespace {

// Forward secrecy and authenticated encryption only; TLS 1.3 has nothing else.
constexpr const char* kCiphers12 = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr std::size_t kRecordBytes = 16 * 1024;  // what one record holds at most

/// The first thing that OpenSSL says, in words.
std::string openssl_error() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  if (code == 0) return "unknown error";
  const char* reason = ERR_reason_error_string(code);
  return reason != nullptr ? reason : "error " + std::to_string(code);
}

base::Error file_error(const char* what, const std::string& path, const char* remedy) {
  return {base::ErrorKind::invalid, std::string("cannot use the ") + what + " " + path + ": " + openssl_error() + "; " + remedy};
}

/// http/1.1 is all that is spoken here. A client that offers only others is told so by an alert; one that offers nothing gets it, too.
int select_protocol(ssl_st* /*ssl*/, const unsigned char** out, unsigned char* out_bytes, const unsigned char* offered, unsigned offered_bytes,
                    void* /*nothing*/) {
  static constexpr std::string_view kSpoken = "http/1.1";
  for (unsigned at = 0; at < offered_bytes; at += 1U + offered[at]) {
    const unsigned length = offered[at];
    if (at + 1 + length > offered_bytes) break;
    if (std::string_view(reinterpret_cast<const char*>(offered + at + 1), length) != kSpoken) continue;
    *out = offered + at + 1;
    *out_bytes = static_cast<unsigned char>(length);
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

std::int64_t end_of(const X509* certificate) {
  std::tm utc{};
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &utc) != 1) return 0;
  return timegm(&utc);
}

base::Status load_files(SSL_CTX* context, const TlsFiles& files) {
  if (SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) != 1)
    return file_error("certificate", files.certificate, "it must be PEM, the server's own certificate first, and readable");
  if (SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) != 1)
    return file_error("private key", files.key, "it must be PEM without a passphrase, of the certificate's pair, and readable");
  if (SSL_CTX_check_private_key(context) != 1) return file_error("private key", files.key, "it belongs to another certificate");
  if (files.client_ca.empty()) return {};
  if (SSL_CTX_load_verify_locations(context, files.client_ca.c_str(), nullptr) != 1)
    return file_error("clients' CA", files.client_ca, "it must be PEM and readable");
  SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(files.client_ca.c_str()));
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  // No resumption: a resumed session would not look at the certificate again.
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_num_tickets(context, 0);
  return {};
}

}  // namespace

base::Result<std::shared_ptr<TlsContext>> TlsContext::load(const TlsFiles& files) {
  ERR_clear_error();
  std::shared_ptr<TlsContext> made(new TlsContext(SSL_CTX_new(TLS_server_method())));
  SSL_CTX* const context = made->context_;
  if (context == nullptr) return base::Error{base::ErrorKind::internal, "cannot set TLS up: " + openssl_error()};
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_read_ahead(context, 1);
  if (SSL_CTX_set_cipher_list(context, kCiphers12) != 1) return base::Error{base::ErrorKind::internal, "cannot set TLS up: " + openssl_error()};
  SSL_CTX_set_alpn_select_cb(context, select_protocol, nullptr);
  THAW_RETURN_IF_ERROR(load_files(context, files));
  made->expires_unix_s_ = end_of(SSL_CTX_get0_certificate(context));
  return made;
}

TlsContext::~TlsContext() { SSL_CTX_free(context_); }

base::Result<std::unique_ptr<TlsSession>> TlsContext::accept(int fd) const {
  ERR_clear_error();
  std::unique_ptr<TlsSession> session(new TlsSession(SSL_new(context_)));
  if (session->ssl_ == nullptr || SSL_set_fd(session->ssl_, fd) != 1)
    return base::Error{base::ErrorKind::exhausted, "cannot begin a TLS connection: " + openssl_error()};
  SSL_set_accept_state(session->ssl_);
  return session;
}

TlsSession::~TlsSession() { SSL_free(ssl_); }

/// Bytes are never the answer here: 0 or -errno.
ssize_t TlsSession::failed(int result, bool& want_write) {
  const int system_error = errno;
  want_write = false;
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ: return -EAGAIN;
    case SSL_ERROR_WANT_WRITE: want_write = true; return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_SYSCALL:
      broken_ = true;
      ERR_clear_error();
      return system_error == 0 ? 0 : -system_error;
    default: break;
  }
  broken_ = true;
  // A peer that goes without saying goodbye: HTTP knows by itself whether a message is whole.
  if (ERR_GET_REASON(ERR_peek_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
    ERR_clear_error();
    return 0;
  }
  error_ = openssl_error();
  return -EPROTO;
}

int TlsSession::handshake(bool& want_write) {
  ERR_clear_error();
  errno = 0;
  const int result = SSL_do_handshake(ssl_);
  open_ = result == 1;
  if (open_) return 0;
  const ssize_t why = failed(result, want_write);
  return why == 0 ? -ECONNRESET : static_cast<int>(why);
}

ssize_t TlsSession::read(std::span<char> buffer) {
  if (broken_) return -EPROTO;
  ERR_clear_error();
  errno = 0;
  std::size_t count = 0;
  const int result = SSL_read_ex(ssl_, buffer.data(), buffer.size(), &count);
  if (result == 1) return static_cast<ssize_t>(count);
  bool want_write = false;
  const ssize_t why = failed(result, want_write);
  // Only an answer to a key update could be: a peer that asks for one and takes nothing is let go.
  return want_write ? -EPROTO : why;
}

/// `skip` bytes of the parts are out already; as much of the rest as there is room for, one behind the other.
std::size_t TlsSession::gather(std::span<const iovec> parts, std::size_t skip, std::span<char> into) {
  std::size_t gathered = 0;
  for (const iovec& part : parts) {
    const std::size_t skipped = std::min(skip, part.iov_len);
    skip -= skipped;
    const std::size_t bytes = std::min(part.iov_len - skipped, into.size() - gathered);
    if (bytes > 0) std::memcpy(into.data() + gathered, static_cast<const char*>(part.iov_base) + skipped, bytes);
    gathered += bytes;
  }
  return gathered;
}

ssize_t TlsSession::write(std::span<const iovec> parts) {
  std::array<char, kRecordBytes> record;  // head and body of an answer go out in one, if they fit
  std::size_t done = 0;
  while (true) {
    if (broken_) return -EPROTO;
    const std::size_t limit = begun_bytes_ > 0 ? begun_bytes_ : record.size();
    const std::size_t gathered = gather(parts, done, {record.data(), limit});
    if (gathered < begun_bytes_) return -EINVAL;
    if (gathered == 0) return static_cast<ssize_t>(done);
    ERR_clear_error();
    errno = 0;
    std::size_t count = 0;
    const int result = SSL_write_ex(ssl_, record.data(), gathered, &count);
    if (result == 1) {
      begun_bytes_ = 0;
      done += count;
      continue;
    }
    bool want_write = false;
    const ssize_t why = failed(result, want_write);
    if (why == -EAGAIN && want_write) {
      begun_bytes_ = gathered;
      return done > 0 ? static_cast<ssize_t>(done) : -EAGAIN;
    }
    if (why == -EAGAIN) return -EPROTO;  // nothing that is read could let it go on: there is no renegotiation
    return why == 0 ? -EPIPE : why;
  }
}

void TlsSession::close_notify() {
  if (broken_ || !open_) return;
  ERR_clear_error();
  (void)SSL_shutdown(ssl_);
  ERR_clear_error();
}

std::string TlsSession::peer_subject() const {
  X509* const certificate = SSL_get0_peer_certificate(ssl_);
  if (certificate == nullptr) return {};
  BIO* const memory = BIO_new(BIO_s_mem());
  if (memory == nullptr) return {};
  X509_NAME_print_ex(memory, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253);
  const char* data = nullptr;
  const long bytes = BIO_get_mem_data(memory, &data);
  std::string subject(data, static_cast<std::size_t>(std::max(bytes, 0L)));
  BIO_free(memory);
  return subject;
}

}  // namespace thaw::net

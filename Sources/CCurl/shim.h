#pragma once
#include <curl/curl.h>

// curl_easy_setopt(3), curl_easy_getinfo(3) and curl_multi_setopt(3) are variadic, which Swift cannot call. One wrapper
// for each type of argument; each returns curl's code.

typedef size_t (*larder_curl_data)(char *bytes, size_t size, size_t count, void *context);

static inline CURLcode larder_curl_set_long(CURL *easy, CURLoption option, long value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode larder_curl_set_size(CURL *easy, CURLoption option, curl_off_t value) {
    return curl_easy_setopt(easy, option, value);
}
// The string is copied by curl, except for CURLOPT_POSTFIELDS.
static inline CURLcode larder_curl_set_string(CURL *easy, CURLoption option, const char *value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode larder_curl_set_pointer(CURL *easy, CURLoption option, void *value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode larder_curl_set_list(CURL *easy, CURLoption option, struct curl_slist *value) {
    return curl_easy_setopt(easy, option, value);
}
static inline CURLcode larder_curl_set_on_data(CURL *easy, CURLoption option, larder_curl_data callback) {
    return curl_easy_setopt(easy, option, callback);
}
static inline CURLcode larder_curl_set_on_seek(CURL *easy, curl_seek_callback callback) {
    return curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, callback);
}
// Microseconds of the CURLINFO_…_TIME_T kinds, bytes of the CURLINFO_SIZE_…_T kinds.
static inline CURLcode larder_curl_get_size(CURL *easy, CURLINFO info, curl_off_t *value) {
    return curl_easy_getinfo(easy, info, value);
}
static inline CURLcode larder_curl_get_pointer(CURL *easy, CURLINFO info, void **value) {
    return curl_easy_getinfo(easy, info, value);
}
static inline CURLMcode larder_curl_multi_set_long(CURLM *multi, CURLMoption option, long value) {
    return curl_multi_setopt(multi, option, value);
}
// curl_global_init(3) is a macro-flagged call that older versions do not make thread-safe: call it once.
static inline CURLcode larder_curl_global_init(void) { return curl_global_init(CURL_GLOBAL_DEFAULT); }

// The finished transfer of a CURLMSG_DONE message; the result is a union that Swift imports without a name.
static inline CURL *larder_curl_next_done(CURLM *multi, CURLcode *result) {
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(multi, &left))) {
        if (message->msg != CURLMSG_DONE) continue;
        *result = message->data.result;
        return message->easy_handle;
    }
    return NULL;
}

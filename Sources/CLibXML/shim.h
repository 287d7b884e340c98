#pragma once
#include <libxml/SAX2.h>
#include <libxml/parser.h>
#include <string.h>

// XML_SAX2_MAGIC is a macro with a cast that Swift does not import.
static inline void larder_xml_prepare(xmlSAXHandler *handler) {
    memset(handler, 0, sizeof *handler);
    handler->initialized = XML_SAX2_MAGIC;
}

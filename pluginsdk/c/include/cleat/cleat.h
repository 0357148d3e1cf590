// The C SDK of cleat: everything a plugin needs. README.md shows how to use it.
#ifndef CLEAT_CLEAT_H
#define CLEAT_CLEAT_H

#include "abi.h"
#include "admission.h"
#include "cluster.h"
#include "guest.h"
#include "json.h"
#include "plan.h"
#include "text.h"
#include "value.h"

#endif

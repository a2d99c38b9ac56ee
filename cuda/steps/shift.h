// v + offset.
#pragma once

#include "../program.h"

AUG_BEGIN
namespace steps {

struct shift : Pointwise {
    AUG_VALUES(offset)

    template <class L>
    static AUG_HOSTDEV typename L::Float apply(const float* v, int, typename L::Float value, const Here<L>&) {
        return value + v[offset];
    }
};

}  // namespace steps
AUG_END

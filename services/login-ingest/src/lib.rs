//! Takes login records in: validates, mints login ids, stores them in LOGIN

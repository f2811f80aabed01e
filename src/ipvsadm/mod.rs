//! ipvsadm's command language over [`crate::ipvs`].

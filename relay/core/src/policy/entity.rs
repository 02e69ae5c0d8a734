//! Cedar's view of principals, devices and apps. Built once: of a session when its token is verified, of an app
//! when the policy is loaded.

use crate::app::App;
use crate::principal::PrincipalKey;
use cedar_policy::{Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};
use postern_protocol::DeviceId;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

/// The entity types of the schema.
struct Types {
    user: EntityTypeName,
    group: EntityTypeName,
    device: EntityTypeName,
    app: EntityTypeName,
    app_group: EntityTypeName,
    request: EntityUid,
    connect: EntityUid,
}

#[expect(clippy::expect_used, reason = "constants; any test that loads a policy proves that they parse")]
static TYPES: LazyLock<Types> = LazyLock::new(|| {
    let name = |text: &str| text.parse::<EntityTypeName>().expect("an identifier");
    let action = |text: &str| EntityUid::from_type_name_and_id(name("Action"), EntityId::new(text));
    Types {
        user: name("User"),
        group: name("Group"),
        device: name("Device"),
        app: name("App"),
        app_group: name("AppGroup"),
        request: action("request"),
        connect: action("connect"),
    }
});

fn uid(of: &EntityTypeName, id: impl AsRef<str>) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

/// `Action::"request"`.
pub(super) fn request_action() -> EntityUid {
    TYPES.request.clone()
}

/// `Action::"connect"`.
pub(super) fn connect_action() -> EntityUid {
    TYPES.connect.clone()
}

/// `Group::"name"`.
pub(super) fn group_uid(name: &str) -> EntityUid {
    uid(&TYPES.group, name)
}

/// `App::"name"`.
pub(super) fn app_uid(app: &App) -> EntityUid {
    uid(&TYPES.app, app.name.as_str())
}

/// `AppGroup::"name"`.
pub(super) fn app_group_uid(name: &str) -> EntityUid {
    uid(&TYPES.app_group, name)
}

/// The app with its groups as parents. Groups have no attributes and so need no entity of their own.
pub(super) fn app_entity(app: &App) -> Option<Entity> {
    let text = |text: &str| RestrictedExpression::new_string(text.into());
    let attributes =
        HashMap::from([("name".to_owned(), text(app.name.as_str())), ("kind".to_owned(), text(app.kind.as_str()))]);
    let parents = app.groups.iter().map(|group| app_group_uid(group)).collect();
    Entity::new(app_uid(app), attributes, parents).ok()
}

/// The principal of a session as policies see it.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// The principal alone; the app asked for joins it in a copy, which is cheap.
    entities: Entities,
    uid: EntityUid,
    device: EntityUid,
    groups: HashSet<EntityUid>,
}

impl Subject {
    /// The principal with its groups as parents, and its device.
    pub(crate) fn new(principal: &PrincipalKey, groups: &[String], device: &DeviceId) -> Option<Self> {
        let uid_of_user = uid(&TYPES.user, principal.to_string());
        let text = |text: &str| RestrictedExpression::new_string(text.into());
        let attributes = HashMap::from([
            ("issuer".to_owned(), text(principal.issuer())),
            ("subject".to_owned(), text(principal.subject())),
        ]);
        let groups: HashSet<EntityUid> = groups.iter().map(|group| group_uid(group)).collect();
        let entity = Entity::new(uid_of_user.clone(), attributes, groups.clone()).ok()?;
        // Adding to an empty set takes a third of the time of `from_entities`, and gives the same.
        let entities = Entities::empty().add_entities([entity], None).ok()?;
        Some(Self { entities, uid: uid_of_user, device: uid(&TYPES.device, device.as_str()), groups })
    }

    pub(super) fn entities(&self) -> &Entities {
        &self.entities
    }

    pub(super) fn uid(&self) -> &EntityUid {
        &self.uid
    }

    pub(super) fn device(&self) -> &EntityUid {
        &self.device
    }

    /// Is the principal `ancestor` or in it?
    pub(super) fn is_in(&self, ancestor: &EntityUid) -> bool {
        self.uid == *ancestor || self.groups.contains(ancestor)
    }

    /// Everything the principal is in, itself included.
    pub(super) fn ancestors(&self) -> impl Iterator<Item = &EntityUid> {
        self.groups.iter().chain(std::iter::once(&self.uid))
    }
}
